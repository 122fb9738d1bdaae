"""Plans built by TensorRT for RTX itself, which takes no GPU; killed, limited, found again."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from keyvid.bundle.manifest import Bundle
from keyvid.engines.cache import Cache, key_of
from keyvid.engines.tensorrt import plan as plan_module
from keyvid.engines.tensorrt.library import TENSORRT_RTX
from keyvid.engines.tensorrt.plan import SETTINGS, build_plan, describe, find_plan
from keyvid.errors import EngineError, SettingsError
from tests.engines.rtx import ADA, BLACKWELL, HOPPER, needs_rtx

pytestmark = needs_rtx

RTX = SETTINGS["tensorrt-rtx"]
TARGETS = ("sm86", "sm89")
# Drives the compiler as TensorRT is driven: plans of this GPU, with timings and a workspace.
TIMED = replace(RTX, library=replace(TENSORRT_RTX, capabilities=(), portable=()))
GIB = 1 << 30


@pytest.fixture
def graph(affine_bundle: Bundle) -> Path:
    return affine_bundle.path / "affine.onnx"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "plans")


@pytest.fixture
def on_ada(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: ADA)
    monkeypatch.setattr(plan_module, "free_bytes", lambda: 10 * GIB)


@pytest.fixture
def no_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object) -> dict[str, Any]:
        raise AssertionError("a builder was started")

    monkeypatch.setattr(plan_module, "run_builder", run)


def write_model(path: Path, node: onnx.NodeProto, size: int | str) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 4]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([node], "g", [x], [y]),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_a_plan_is_built_once_and_found_again(
    graph: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_plan(graph, RTX, cache, TARGETS)
    assert plan.ingredients == describe(graph, RTX, TARGETS)
    record = cache.record(plan.ingredients)
    assert record["seconds"] > 0
    assert record["host_bytes"] > 1 << 26
    assert record["activation_bytes"] >= 0
    monkeypatch.setattr(plan_module, "run_builder", None)
    assert build_plan(graph, RTX, cache, TARGETS) == plan


def test_a_byte_that_changed(graph: Path, cache: Cache) -> None:
    plan = build_plan(graph, RTX, cache, TARGETS)
    file = cache.folder / key_of(plan.ingredients) / "plan"
    changed = bytearray(plan.content)
    changed[len(changed) // 2] ^= 1
    file.write_bytes(changed)
    assert find_plan(graph, RTX, cache, ADA) is None
    assert build_plan(graph, RTX, cache, TARGETS) == plan  # builds are reproducible


def test_only_the_card_that_a_plan_is_for_gets_it(graph: Path, cache: Cache) -> None:
    several = build_plan(graph, RTX, cache, TARGETS)
    assert find_plan(graph, RTX, cache, ADA) == several
    assert find_plan(graph, RTX, cache, BLACKWELL) is None
    portable = build_plan(graph, RTX, cache, ("portable",))
    assert find_plan(graph, RTX, cache, BLACKWELL) == portable
    assert find_plan(graph, RTX, cache, HOPPER) is None
    own = build_plan(graph, RTX, cache, ("sm89",))
    assert find_plan(graph, RTX, cache, ADA) == own


def test_a_plan_of_another_graph_or_version_is_not_found(
    graph: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_plan(graph, RTX, cache, TARGETS)
    monkeypatch.setattr(plan_module, "BUILDER_VERSION", 99)
    assert find_plan(graph, RTX, cache, ADA) is None
    monkeypatch.undo()
    assert find_plan(graph, RTX, cache, ADA) is not None
    graph.write_bytes(graph.read_bytes() + b"\x32\x00")  # an empty documentation string
    assert find_plan(graph, RTX, cache, ADA) is None


def test_the_words_of_the_parser(tmp_path: Path, cache: Cache) -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="volume")
    graph = write_model(tmp_path / "det.onnx", node, 4)
    with pytest.raises(EngineError) as error:
        build_plan(graph, RTX, cache, TARGETS)
    message = str(error.value)
    assert message.startswith(
        "det.onnx: TensorRT for RTX cannot read the graph, 1 errors: node volume (Det): "
    )
    assert "\n" not in message
    assert list(cache.entries()) == []


def test_a_shape_that_is_open(tmp_path: Path, cache: Cache) -> None:
    graph = write_model(tmp_path / "open.onnx", helper.make_node("Tanh", ["x"], ["y"]), "n")
    with pytest.raises(EngineError, match=r"open.onnx: input 'x' has no fixed shape"):
        build_plan(graph, RTX, cache, TARGETS)


def test_a_build_keeps_to_its_memory(graph: Path, cache: Cache) -> None:
    with pytest.raises(EngineError, match=r"affine.onnx: .* more than the 50 MB that --max-memory"):
        build_plan(graph, RTX, cache, TARGETS, memory_bytes=50_000_000)
    assert list(cache.entries()) == []


def test_targets() -> None:
    assert TENSORRT_RTX.parse_targets("sm120, sm86") == ("sm86", "sm120")
    assert TENSORRT_RTX.parse_targets("portable") == ("portable",)
    for text, wrong in (("sm90", "sm90"), ("sm86,portable", "portable"), ("sm86,", "")):
        with pytest.raises(SettingsError, match=rf"no target '{wrong}' .* sm75, sm80, sm86, sm89"):
            TENSORRT_RTX.parse_targets(text)


def test_every_target_is_one_of_the_compiler() -> None:
    import tensorrt_rtx

    known = set(tensorrt_rtx.ComputeCapability.__members__) - {"NONE", "CURRENT"}
    assert {
        TENSORRT_RTX.target(replace(ADA, compute_capability=capability)).upper()
        for capability in TENSORRT_RTX.capabilities
    } == known


# As TensorRT is driven: on the GPU that the plan is for.


def test_timings_are_handed_on(
    on_ada: None, graph: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_plan(graph, TIMED, cache)
    assert plan.ingredients["gpu"] == ADA.name
    assert cache.record(plan.ingredients)["workspace_bytes"] == 5 * GIB  # half of what is free
    kinds = {entry.ingredients["kind"] for _, entry in cache.entries() if entry}
    assert kinds == {"TensorRT for RTX plan", "kernel timings"}
    seen = []

    def run(request: Any, *_: object) -> dict[str, Any]:
        seen.append(Path(request.timing_cache).read_bytes())
        Path(request.plan).write_bytes(b"plan")
        return {"record": {}}

    monkeypatch.setattr(plan_module, "run_builder", run)
    monkeypatch.setattr(plan_module, "BUILDER_VERSION", 99)
    build_plan(graph, TIMED, cache)
    assert seen[0]


def test_less_workspace_after_a_failure(
    on_ada: None, graph: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, enough = [], GIB

    def run(request: Any, *_: object) -> dict[str, Any]:
        limits.append(request.workspace_bytes)
        if request.workspace_bytes > enough:
            return {"failure": "the builder was ended by signal 9", "again": True}
        Path(request.plan).write_bytes(b"plan")
        return {"record": {}}

    monkeypatch.setattr(plan_module, "run_builder", run)
    monkeypatch.setattr(plan_module, "free_bytes", lambda: 100 * GIB)
    build_plan(graph, TIMED, cache)
    assert limits == [8 * GIB, 2 * GIB, GIB // 2]
    enough = 0
    monkeypatch.setattr(plan_module, "free_bytes", lambda: 2 * GIB)
    cache.clear()
    with pytest.raises(EngineError) as error:
        build_plan(graph, TIMED, cache)
    assert str(error.value) == (
        "affine.onnx: with 1024 MiB of workspace: the builder was ended by signal 9; "
        "with 256 MiB of workspace: the builder was ended by signal 9; "
        "close other programs, or take --engine cuda"
    )


def test_each_ingredient_changes_the_key(
    graph: Path, affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorrt_rtx

    gpu, settings = ADA, TIMED
    monkeypatch.setattr(plan_module, "find_gpu", lambda: gpu)
    seen = [describe(graph, settings)]

    def add(*expected: str) -> None:
        changed = describe(graph, settings)
        (last,) = seen[-1:]
        assert {name for name in last if last[name] != changed[name]} == set(expected)
        seen.append(changed)

    for change in ({"optimization_level": 4}, {"weight_streaming": True}):
        settings = replace(settings, **change)
        add("settings")
    for name, value, ingredient in (
        ("name", "Other", "gpu"),
        ("compute_capability", "9.0", "compute_capability"),
        ("memory_bytes", 8 << 30, "gpu_bytes"),
        ("driver", "13.6 580.65.06", "driver"),
        ("cuda", "13.3", "cuda"),
    ):
        gpu = replace(gpu, **{name: value})
        add(ingredient)
    monkeypatch.setattr(tensorrt_rtx, "__version__", "2.0")
    add("version")
    monkeypatch.setattr(plan_module, "BUILDER_VERSION", 99)
    add("builder")
    weights = affine_bundle.path / "affine.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    add("weights")
    graph.write_bytes(graph.read_bytes() + b"\x32\x00")
    add("graph")
    ahead = describe(graph, RTX, ("sm86",))
    assert ahead["targets"] == "sm86"
    assert "gpu" not in ahead


# Processes that are killed, and that come at once.

BUILD = """
import logging, sys
from pathlib import Path
from keyvid.engines.cache import Cache
from keyvid.engines.tensorrt.plan import SETTINGS, build_plan
logging.basicConfig(level="WARNING")
settings = SETTINGS["tensorrt-rtx"]
build_plan(Path(sys.argv[1]), settings, Cache(Path(sys.argv[2])), ("sm86", "sm89"))
"""


@pytest.fixture
def start(graph: Path, cache: Cache) -> Iterator[Any]:
    """`start()`: a process that asks for the plan; its builder is another one."""
    started = []

    def run() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", BUILD, graph, cache.folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_killed_at_random_moments_the_cache_stays_usable(
    start: Any, graph: Path, cache: Cache
) -> None:
    """Either of the two processes is killed; the next one goes on with what that leaves."""
    begin = time.monotonic()
    output, _ = start().communicate()
    seconds = time.monotonic() - begin
    whole = cache.get(describe(graph, RTX, TARGETS))
    assert whole is not None, output
    cache.clear()
    for part in range(6):
        asking = start()
        time.sleep(seconds * (part + random.random()) / 6)
        victims = psutil.Process(asking.pid).children() if part % 2 else []
        for victim in victims or [asking]:
            victim.kill()
        output, _ = asking.communicate()
        found = cache.get(describe(graph, RTX, TARGETS))
        assert found in (None, whole)
        if victims and asking.returncode:
            assert "signal 9" in output
        if found:
            cache.clear()
    assert build_plan(graph, RTX, cache, TARGETS).content == whole
    assert not list(cache.folder.glob(".*"))


def test_two_processes_make_one_plan(start: Any, cache: Cache) -> None:
    both = [start() for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("building" in output for output in outputs) == 1
    assert len(list(cache.entries())) == 1


def test_the_builder_ends_with_the_process_that_asked(start: Any) -> None:
    asking = start()
    while not (builders := psutil.Process(asking.pid).children()):
        time.sleep(0.01)
    asking.kill()
    asking.communicate()
    _, alive = psutil.wait_procs(builders, timeout=5)
    assert not alive


def test_looking_for_an_engine_does_not_load_its_library() -> None:
    """Where there is no GPU, the library would take memory for nothing."""
    code = (
        "import sys\n"
        "from keyvid.engines.engine import probe_engine\n"
        "assert not probe_engine('tensorrt-rtx').available\n"
        "assert 'tensorrt_rtx' not in sys.modules\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
