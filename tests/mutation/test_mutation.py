"""Damaged inputs by the thousand: no traceback, no hang, nothing left behind, at most 1 GB.

All 2,000 cases take some minutes: `pytest -m slow tests/mutation`. A case is repeated with
`python -m tests.mutation.worker KIND SEED 1`.
"""

import contextlib
import copy
import io
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyvid.bundle.manifest import MANIFEST
from keyvid.errors import KeyvidError
from keyvid.runtime.jobs import cli
from keyvid.runtime.pipeline import Pipeline
from tests.mutation.worker import BUNDLE
from tests.runtime.conftest import write_hollow_bundle

SECONDS = 10  # that a case may compute
PATIENCE = 60  # seconds without a word, on a busy machine
MOST_MEMORY = 1 << 30
ROOT = Path(__file__).parents[2]


def run_cases(cases: str) -> None:
    """See that a worker gets through cases such as "pictures 0 100", quietly."""
    lines: queue.Queue[str] = queue.Queue()
    command = [sys.executable, "-m", "tests.mutation.worker", *cases.split()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:

        def read() -> None:
            assert worker.stdout
            for line in worker.stdout:
                if line.startswith("{"):  # ONNX Runtime prints there, too
                    lines.put(line)
            lines.put("")

        threading.Thread(target=read, daemon=True).start()
        said: dict[str, Any] = {}
        wrong = []
        try:
            while line := lines.get(timeout=PATIENCE):
                said = json.loads(line)
                if said.get("wrong") or said.get("cpu_seconds", 0) > SECONDS:
                    wrong.append(f"{said['done']}: {said['cpu_seconds']} s, {said['wrong']}")
        except queue.Empty:
            worker.kill()
            pytest.fail(f"hangs after {said}")
        assert worker.stderr
        noise = worker.stderr.read()
    assert not wrong, "\n".join(wrong)
    assert "peak" in said, f"ended with {worker.returncode} after {said}: {noise}"
    # OpenVINO reads a damaged graph as one of other kinds, too, and prints what it thinks of it.
    assert not noise or "graphs" in cases
    assert said["peak"] <= MOST_MEMORY


def test_some_damaged_files() -> None:
    run_cases("pictures 0 30 sounds 0 20 graphs 0 3 weights 0 2")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1600, 100))
@pytest.mark.parametrize("kind", ["pictures", "sounds"])
def test_many_damaged_files(kind: str, seed: int) -> None:
    run_cases(f"{kind} {seed} 100")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["graphs", "weights"])
def test_many_damaged_networks(kind: str) -> None:
    run_cases(f"{kind} 1000 100")


ODD_NUMBERS = [
    "1e308",
    "-1e308",
    "9" * 310,
    "nan",
    "-inf",
    "0x10",
    "1_000",
    "-0",
    "1e-320",
    "",
]
OPTIONS = [
    option.opts[0]
    for option in cli._infer.params
    if option.opts[0].startswith("--") and not getattr(option, "is_flag", False)
]
VALUES = st.one_of(
    st.sampled_from(ODD_NUMBERS), st.integers().map(str), st.floats().map(str), st.text()
)


def check_options(folder: Path, arguments: list[str]) -> None:
    """See that `keyvid-infer` refuses what it is told in a line, and leaves nothing."""
    output, errors = io.StringIO(), io.StringIO()
    before = sorted(folder.rglob("*"))
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = cli.main([*arguments, "--bundle", "hollow"])
    assert code == 2, errors.getvalue()
    assert "Traceback" not in errors.getvalue()
    assert errors.getvalue().splitlines()[-1].startswith("keyvid-infer: ")
    assert sorted(folder.rglob("*")) == before


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle without networks."""
    folder = tmp_path_factory.mktemp("options")
    write_hollow_bundle(folder / "hollow")
    for name in ("portrait.png", "gap.mp4"):
        (folder / name).write_bytes((ROOT / "tests" / "cases" / name).read_bytes())
    return folder


def options_test(num_examples: int) -> Any:
    """A test of so many sets of options."""

    @settings(max_examples=num_examples, deadline=PATIENCE * 1000, derandomize=True, database=None)
    @given(st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=3), st.booleans())
    def check(workplace: Path, options: dict[str, str], swapped: bool) -> None:
        inputs = ["gap.mp4", "portrait.png"] if swapped else ["portrait.png", "gap.mp4"]
        check_options(workplace, [*inputs, *(part for pair in options.items() for part in pair)])

    return check


test_some_options = options_test(20)
test_many_options = pytest.mark.slow(options_test(300))


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400]),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to each value within a JSON value."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


WHOLE = json.loads((BUNDLE / MANIFEST).read_text())
PLACES = [place for place in places(WHOLE) if "check" not in place]


class Enough(Exception):  # noqa: N818 (it is no error)
    """Ends a clip before its first stage."""


def manifests_test(num_examples: int) -> Any:
    """A test of so many manifests with a value that is odd, missing or in the wrong place."""

    @settings(
        max_examples=num_examples,
        deadline=PATIENCE * 1000,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.sampled_from(PLACES), st.one_of(ODD_VALUES, st.sampled_from(PLACES)), st.booleans())
    def check(bundle: Path, place: tuple[Any, ...], value: Any, removed: bool) -> None:
        manifest = copy.deepcopy(WHOLE)
        if isinstance(value, tuple):
            value = copy.deepcopy(reduce(getitem, value, WHOLE))
        parent = reduce(getitem, place[:-1], manifest)
        if removed:
            del parent[place[-1]]
        else:
            parent[place[-1]] = value
        (bundle / MANIFEST).write_text(json.dumps(manifest))

        def stop(stage: str, done: int, total: int) -> None:
            raise Enough

        with contextlib.suppress(KeyvidError, Enough):
            pipeline = Pipeline.load(bundle, "onnxruntime", threads=1)
            pipeline(
                ROOT / "tests" / "cases" / "red-p3.png",
                ROOT / "tests" / "cases" / "gap.mp4",
                progress=stop,
            )

    return check


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged bundle, its manifest free to be changed."""
    folder = tmp_path_factory.mktemp("bundle")
    for file in BUNDLE.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


test_some_manifests = manifests_test(15)
test_many_manifests = pytest.mark.slow(manifests_test(300))
