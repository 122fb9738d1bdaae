"""Changes a module in one place at a time, and lists the changes that no test of it sees.

`python -m tests.mutants keyvid/runtime/diffusion/noise.py` takes ten of the possible changes by
chance. Each is made in a copy of the repository. The tests that mirror the module run first, those
of its room only if they pass. What survives is a gap in the tests, or changes nothing: -2 is as
good as -1 for the size that `reshape` finds out.
"""

import ast
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import click
import pytest

from tests.mutants.mutant import mutants_of

ROOT = Path(__file__).parents[2]
COPIED = ("bench", "docs", "keyvid", "keyvid_ref", "tests", "pyproject.toml", "README.md")
ENDLESS = 10  # times what the tests take with nothing changed


def mirrored_tests(module: Path) -> list[Path]:
    """The tests that mirror a module, in its room and in `tests/parity`, then all of its room."""
    room = Path("tests", *module.parts[module.parts[0] == "keyvid" : -1])
    room = next(folder for folder in (room, *room.parents) if (ROOT / folder).is_dir())
    name = f"test_{module.stem}.py"
    files = [
        path for path in (room / name, Path("tests", "parity", name)) if (ROOT / path).exists()
    ]
    return [*files, room]


def import_what_tests_need(tests: Sequence[Path]) -> None:
    """Import packages of others once, for all processes that are forked from here."""
    for place in tests:
        for path in [ROOT / place] if place.suffix else (ROOT / place).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                names = [node.module] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in getattr(node, "names", []) if not names]
                for name in names:
                    if name and name.partition(".")[0] not in (
                        "bench",
                        "keyvid",
                        "keyvid_ref",
                        "tests",
                    ):
                        with suppress(ImportError):
                            import_module(name)


def run_tests(repository: Path, tests: Path, seconds: float) -> bool:
    """Whether `tests` pass there, in a process that after `seconds` is killed with its children."""
    process = os.fork()
    if not process:
        os.setsid()
        os.chdir(repository)
        os.environ["PYTHONPATH"] = str(repository)
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(silence, stream)
        arguments = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tests)]
        os._exit(pytest.main(arguments))
    begin = time.monotonic()
    done, status = 0, 1
    while not done and time.monotonic() - begin < seconds:
        done, status = os.waitpid(process, os.WNOHANG)
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    if not done:
        os.waitpid(process, 0)
        return False
    if os.waitstatus_to_exitcode(status) == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise click.UsageError(f"{tests}: holds no test")
    return status == 0


def survivors(module: Path, tests: Sequence[Path], chosen: Sequence) -> Iterator:
    """The mutants that all tests pass with, as they are found."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, repository / name)
        limits = []
        for place in tests:
            begin = time.monotonic()
            if not run_tests(repository, place, 3600):
                raise click.UsageError(f"{place}: fails with nothing changed")
            limits.append(ENDLESS * (time.monotonic() - begin))
        for mutant in chosen:
            (repository / module).write_text(mutant.source)
            if all(map(run_tests, [repository] * len(tests), tests, limits)):
                yield mutant


@click.command()
@click.argument("module", type=click.Path(exists=True, path_type=Path))
@click.option("--count", default=10, show_default=True, help="How many changes.")
@click.option("--seed", default=0, show_default=True, help="Which.")
@click.option("--tests", multiple=True, type=click.Path(exists=True, path_type=Path))
def main(module: Path, count: int, seed: int, tests: tuple[Path, ...]) -> None:
    """List the changes of MODULE that no test sees."""
    module = module.resolve().relative_to(ROOT)
    places = tests or mirrored_tests(module)
    possible = mutants_of((ROOT / module).read_text())
    chosen = random.Random(seed).sample(possible, min(count, len(possible)))
    import_what_tests_need(places)
    survived = 0
    for mutant in survivors(module, places, sorted(chosen)):
        click.echo(f"{module}:{mutant.line}: {mutant.was}  ->  {mutant.becomes}")
        survived += 1
    click.echo(f"{module}: {len(chosen) - survived} of {len(chosen)} changes seen", err=True)
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
