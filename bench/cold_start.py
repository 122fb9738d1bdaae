"""How long `keyvid-infer` takes: `python -m bench.cold_start`, on a machine that does nothing else.

Each round makes one clip three times: with an empty cache, again with what that kept, and in a
process whose networks are open, with the clip's file. Medians of all rounds.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

from keyvid.command import CONTEXT, say
from keyvid.engines import processor
from keyvid.runtime.pipeline import Pipeline

EXAMPLES = Path(__file__).parents[1] / "keyvid" / "examples"
KINDS = ("first command", "command again", "warm clip")
_COMMAND = "import sys; from keyvid.runtime.jobs.cli import main; sys.exit(main())"


class Taken(NamedTuple):
    """Seconds of the clock, and of all processors."""

    seconds: float
    processor_seconds: float


def command(scene: str, folder: Path) -> Taken:
    """`keyvid-infer` in a process of its own, with a cache in `folder`."""
    files = [str(EXAMPLES / f"{scene}.{suffix}") for suffix in ("png", "wav")]
    output = str(folder / "clip.mp4")
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "HOME": str(folder)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", _COMMAND, *files, "-o", output],
        env=environment,
        check=True,
        capture_output=True,
    )
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(seconds, taken)


def warm_clip(pipeline: Pipeline, scene: str, folder: Path) -> Taken:
    """The same clip with open networks."""
    image, audio = EXAMPLES / f"{scene}.png", EXAMPLES / f"{scene}.wav"
    before, start = time.process_time(), time.perf_counter()
    pipeline(image, audio).save(folder / "clip.mp4")
    taken = Taken(time.perf_counter() - start, time.process_time() - before)
    (folder / "clip.mp4").unlink()
    return taken


def table(rows: dict[str, list[Taken]]) -> str:
    """Medians, and each beside that of a warm clip."""
    clock = {kind: median(row.seconds for row in taken) for kind, taken in rows.items()}
    lines = [f"{'':14}  seconds  CPU seconds  of a warm clip"]
    for kind, taken in rows.items():
        cpu = median(row.processor_seconds for row in taken)
        ratio = clock[kind] / clock["warm clip"]
        lines.append(f"{kind:14}  {clock[kind]:7.2f}  {cpu:11.2f}  {ratio:14.2f}")
    return "\n".join(lines)


@click.command(help=__doc__, context_settings=CONTEXT)
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--scene", default="hammer", show_default=True, help="Of examples/")
def main(rounds: int, scene: str) -> None:
    """Measure, and print the table."""
    rows: dict[str, list[Taken]] = {kind: [] for kind in KINDS}
    with Pipeline.load() as pipeline, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_clip(pipeline, scene, folder)  # opens them
        for number in range(1, rounds + 1):
            with tempfile.TemporaryDirectory() as empty:
                rows["first command"].append(command(scene, Path(empty)))
                rows["command again"].append(command(scene, Path(empty)))
            rows["warm clip"].append(warm_clip(pipeline, scene, folder))
            taken = ", ".join(f"{kind} {row[-1].seconds:.2f} s" for kind, row in rows.items())
            say(f"round {number} of {rounds}: {taken}")
    click.echo(f"{processor.name()}, {processor.num_cores()} cores, {pipeline.engine.name}")
    click.echo(table(rows))


if __name__ == "__main__":
    main()
