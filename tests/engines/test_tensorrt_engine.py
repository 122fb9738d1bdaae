"""The TensorRT engine against a stand-in for TensorRT and CUDA: what is called, checked and freed.

That TensorRT itself behaves as its documentation says is not shown here; no GPU is used.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines import gpu, tensorrt_engine, tensorrt_plan
from keyvid.engines.engine import Engine, open_engine, probe_engine
from keyvid.engines.gpu import find_gpu
from keyvid.engines.plan_cache import PlanCache
from keyvid.engines.plans import build_plans, format_plans
from keyvid.engines.tensorrt_plan import BuildSettings, describe
from keyvid.engines.verification import verify_engine
from keyvid.errors import EngineError

FAKES = Path(__file__).parent / "fakes"
GIB = 1 << 30


class FakeGpu:
    """What the stand-ins shall do, and what the builder processes did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, log: Path, cudart: ModuleType) -> None:
        self._monkeypatch = monkeypatch
        self._log = log
        self.cudart = cudart
        self.set()

    def set(self, **options: object) -> None:
        options["log"] = str(self._log)
        self._monkeypatch.setenv("FAKE_TENSORRT", json.dumps(options))

    def events(self, kind: str) -> list[Any]:
        """Details of each event of that kind."""
        if not self._log.exists():
            return []
        events = map(json.loads, self._log.read_text().splitlines())
        return [tuple(details) for name, *details in events if name == kind]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    """The stand-ins, importable here and in processes that are started."""
    site = tmp_path / "site"
    for source, target in (("trt.py", "tensorrt"), ("cudart.py", "cuda/bindings/runtime")):
        (site / target).mkdir(parents=True)
        shutil.copy(FAKES / source, site / target / "__init__.py")
    for package in ("cuda", "cuda/bindings"):
        (site / package / "__init__.py").touch()
    foreign = [name for name in sys.modules if name.split(".")[0] in ("tensorrt", "cuda")]
    for name in foreign:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    tensorrt_engine._logger.cache_clear()
    from cuda.bindings import runtime

    yield FakeGpu(monkeypatch, tmp_path / "log", runtime)
    tensorrt_engine._logger.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in ("tensorrt", "cuda")]:
        del sys.modules[name]


@pytest.fixture
def build_affine(fake: FakeGpu, affine_bundle: Bundle) -> Callable[[], Engine]:
    """Opens the engine of "affine"; its plan is built by a process of its own."""
    return lambda: open_engine(affine_bundle, "affine", engine="tensorrt")


@pytest.fixture
def open_affine(
    build_affine: Callable[[], Engine], affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Engine]:
    """The same with a plan that is there."""
    plan = json.dumps({"graph": str(affine_bundle.path / "affine.onnx")}).encode()
    monkeypatch.setattr(tensorrt_engine, "load_plan", lambda *_: plan)
    return build_affine


def check(engine: Engine, affine: SimpleNamespace, seed: int) -> None:
    inputs = affine.draw(seed)
    np.testing.assert_allclose(engine(**inputs)["y"], affine.expected(**inputs), atol=1e-5)


def test_warm_run_then_capture_then_launches(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    engine = open_affine()
    for seed in range(4):
        check(engine, affine, seed)
    calls = fake.cudart.calls
    assert calls.count("execute_async_v3") == 2  # the warm-up and the one that is captured
    assert calls.count("cudaGraphLaunch") == 3
    order = ["cudaStreamBeginCapture", "execute_async_v3", "cudaStreamEndCapture"]
    start = calls.index(order[0])
    assert calls[start : start + 3] == order
    assert calls.count("cudaStreamSynchronize") == 4


def test_bound_inputs_are_copied_once(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    engine = open_affine()
    bound = affine.draw(9)
    engine.bind(bias=bound["bias"], row=bound["row"])
    engine.bind(row=bound["row"] + 1)  # anew, before the first was used
    for seed in range(3):
        x = affine.draw(seed)["x"]
        expected = affine.expected(x, bound["bias"], bound["row"] + 1)
        np.testing.assert_allclose(engine(x=x)["y"], expected, atol=1e-5)
    # bias and row, then x and y three times
    assert fake.cudart.calls.count("cudaMemcpyAsync") == 2 + 3 * 2


def test_an_output_survives_the_next_call_and_the_end(
    open_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    engine = open_affine()
    first = engine(**affine.draw(0))["y"]
    copy = first.copy()
    engine(**affine.draw(1))
    engine.close()
    np.testing.assert_array_equal(first, copy)


def test_close_frees_everything(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    engine = open_affine()
    for seed in range(2):
        check(engine, affine, seed)
    kinds = [kind for kind, _ in fake.cudart.live.values()]
    assert sorted(kinds) == ["device"] * 4 + ["host"] * 4 + ["recorded", "stream"]
    engine.close()
    assert fake.cudart.live == {}
    assert fake.cudart.calls[-1] == "cudaStreamDestroy"
    with pytest.raises(EngineError):
        engine(**affine.draw(0))


WORK = ["cudaStreamCreateWithFlags", "cudaMalloc", "cudaMallocHost", "cudaMemcpyAsync"]
CAPTURE = ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"]
FREE = ["cudaFree", "cudaFreeHost", "cudaStreamDestroy", "cudaGraphExecDestroy"]


@pytest.mark.parametrize("function", [*WORK, "cudaStreamSynchronize", "cudaGraphLaunch"])
def test_each_return_code_is_checked(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace, function: str
) -> None:
    fake.cudart.fail[function] = 700

    def run() -> None:
        engine = open_affine()
        try:
            for seed in range(2):
                check(engine, affine, seed)
        finally:
            engine.close()

    with pytest.raises(EngineError, match=r"CUDA failed \(cudaErrorIllegalAddress\)"):
        run()
    assert fake.cudart.live == {}


@pytest.mark.parametrize("function", FREE)
def test_what_cannot_be_freed_is_said(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace, function: str
) -> None:
    engine = open_affine()
    for seed in range(2):
        check(engine, affine, seed)
    fake.cudart.fail[function] = 700
    with pytest.raises(EngineError, match="cudaErrorIllegalAddress"):
        engine.close()
    left = {kind for kind, _ in fake.cudart.live.values()}
    assert len(left) == 1  # the rest was freed all the same


@pytest.mark.parametrize("function", CAPTURE)
def test_what_cannot_be_captured_runs_without(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace, function: str
) -> None:
    fake.cudart.fail[function] = 700
    engine = open_affine()
    for seed in range(4):
        check(engine, affine, seed)
    assert fake.cudart.calls.count("cudaGraphLaunch") == 0
    engine.close()
    assert fake.cudart.live == {}


def test_out_of_memory_says_what_to_reduce(
    fake: FakeGpu, open_affine: Callable[[], Engine]
) -> None:
    fake.cudart.fail["cudaMalloc"] = 2
    with pytest.raises(EngineError, match=r"GPU memory does not suffice .*lower --cfg-batch"):
        open_affine()
    del fake.cudart.fail["cudaMalloc"]
    fake.set(no_context=True, free=GIB)
    with pytest.raises(EngineError, match=r"3 MiB needed to run, 1024 MiB free; lower --cfg-batch"):
        open_affine()


def test_a_network_that_does_not_start(
    fake: FakeGpu, open_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    engine = open_affine()
    fake.set(no_start=True)
    with pytest.raises(EngineError, match="TensorRT could not start the network"):
        check(engine, affine, 0)


def test_a_plan_is_built_once_and_found_again(
    fake: FakeGpu, build_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    for _ in range(2):
        check(build_affine(), affine, 0)
    assert fake.events("build") == [(5 * GIB, 3)]  # half of what is free
    assert fake.events("clear_flag") == [("TF32",)]
    assert fake.events("set_flag") == []
    entries = [entry for _, entry in PlanCache().entries() if entry]
    (plan,) = (entry for entry in entries if entry.ingredients["kind"] == "tensorrt plan")
    assert plan.record["workspace_bytes"] == 5 * GIB
    assert plan.record["host_bytes"] > 1 << 20
    assert plan.record["seconds"] > 0
    assert (Path.home() / ".cache" / "keyvid" / "plans").is_dir()


def test_a_changed_plan_is_built_again(
    fake: FakeGpu, build_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    build_affine().close()
    ((key, _),) = ((k, e) for k, e in PlanCache().entries() if e and e.record)
    path = PlanCache().folder / key / "plan"
    path.write_bytes(path.read_bytes().replace(b"graph", b"grapH"))
    check(build_affine(), affine, 0)
    assert len(fake.events("build")) == 2


def test_a_plan_that_is_refused_is_built_again_once(
    fake: FakeGpu, build_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    fake.set(refuse=1)
    check(build_affine(), affine, 0)
    assert len(fake.events("build")) == 2
    fake.set(refuse=9)
    with pytest.raises(EngineError, match="TensorRT refuses the plan"):
        build_affine()
    assert len(fake.events("build")) == 3


def test_less_workspace_after_a_failure(
    fake: FakeGpu, build_affine: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    fake.set(most=GIB // 2, free=100 * GIB)
    check(build_affine(), affine, 0)
    assert [limit for limit, _ in fake.events("build")] == [8 * GIB, 2 * GIB, GIB // 2]


def test_no_workspace_is_enough(fake: FakeGpu, build_affine: Callable[[], Engine]) -> None:
    fake.set(most=0, free=2 * GIB)
    with pytest.raises(EngineError) as error:
        build_affine()
    assert str(error.value).endswith(
        "affine.onnx: no TensorRT engine could be built: "
        "with 1024 MiB of workspace: TensorRT found no way to run it, see its messages "
        "([TRT] something on stdout); "
        "with 256 MiB of workspace: TensorRT found no way to run it, see its messages "
        "([TRT] something on stdout); "
        "close other programs that use the GPU, or take --engine cuda"
    )
    assert list(PlanCache().entries()) == []


def test_errors_of_the_parser(fake: FakeGpu, build_affine: Callable[[], Engine]) -> None:
    fake.set(errors=["no such\noperator", "and another"])
    with pytest.raises(EngineError) as error:
        build_affine()
    assert (
        "TensorRT cannot read the graph, 2 errors: node norm (Det): no such operator; "
        "node norm (Det): and another"
    ) in str(error.value)
    assert "\n" not in str(error.value)
    assert fake.events("build") == []


def test_a_builder_that_dies(fake: FakeGpu, build_affine: Callable[[], Engine]) -> None:
    fake.set(signal=int(signal.SIGKILL), free=2 * GIB)
    with pytest.raises(
        EngineError, match="256 MiB of workspace: the builder was ended by signal 9"
    ):
        build_affine()
    assert len(fake.events("build")) == 2


def test_timings_are_handed_on(
    fake: FakeGpu, build_affine: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    build_affine()
    monkeypatch.setattr(tensorrt_plan, "BUILDER_VERSION", 2)
    build_affine()
    assert fake.events("timing_cache") == [("",), ("timed ",)]


def test_progress_is_reported(fake: FakeGpu, affine_bundle: Bundle) -> None:
    steps: list[tuple[str, int, int]] = []
    path = affine_bundle.path / "affine.onnx"
    settings = BuildSettings(optimization_level=1, weight_streaming=True)
    tensorrt_plan.load_plan(path, settings, PlanCache(), lambda *step: steps.append(step))
    assert steps == [("Building", done, 3) for done in range(4)]
    assert fake.events("set_flag") == [("WEIGHT_STREAMING",)]
    assert fake.events("build") == [(5 * GIB, 1)]


def test_two_processes_make_one_plan(fake: FakeGpu, affine_bundle: Bundle) -> None:
    fake.set(hold=1)
    both = [start(affine_bundle) for _ in range(2)]
    for process in both:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    assert len(fake.events("build")) == 1


def test_the_builder_ends_with_the_process_that_asked(
    fake: FakeGpu,
    build_affine: Callable[[], Engine],
    affine: SimpleNamespace,
    affine_bundle: Bundle,
) -> None:
    """Killed while it waits: its builder gives up, and the lock is free for the next one."""
    fake.set(hold=3)
    process = start(affine_bundle)
    while not fake.events("build"):
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.communicate()
    fake.set()
    check(build_affine(), affine, 0)  # waits for the lock
    assert len(fake.events("cancelled")) == 1
    assert not list(PlanCache().folder.glob(".*"))


def start(bundle: Bundle) -> subprocess.Popen[str]:
    """A process that opens the engine."""
    code = (
        "from keyvid.bundle.manifest import Bundle\n"
        "from keyvid.engines.engine import open_engine\n"
        f"open_engine(Bundle.load({str(bundle.path)!r}), 'affine', engine='tensorrt').close()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_each_ingredient_changes_the_key(
    fake: FakeGpu, affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import tensorrt

    path, prop = affine_bundle.path / "affine.onnx", fake.cudart.cudaDeviceProp
    settings = BuildSettings()
    release = tmp_path / "version"
    seen = [describe(path, settings)]

    def add(changed: dict[str, str], *expected: str) -> None:
        (last,) = seen[-1:]
        assert {name for name in last if last[name] != changed[name]} == set(expected)
        seen.append(changed)

    add(describe(path, replace(settings, optimization_level=4)), "settings")
    add(describe(path, replace(settings, optimization_level=4, weight_streaming=True)), "settings")
    settings = replace(settings, optimization_level=4, weight_streaming=True)
    for owner, name, value, ingredient in (
        (prop, "name", b"Other", "gpu"),
        (prop, "minor", 1, "compute_capability"),
        (prop, "totalGlobalMem", 8 << 30, "gpu_bytes"),
        (tensorrt, "__version__", "11.2.0", "tensorrt"),
        (tensorrt_plan, "BUILDER_VERSION", 2, "builder"),
    ):
        monkeypatch.setattr(owner, name, value)
        add(describe(path, settings), ingredient)
    monkeypatch.setattr(fake.cudart, "cudaRuntimeGetVersion", lambda: (0, 13030))
    add(describe(path, settings), "cuda")
    monkeypatch.setattr(fake.cudart, "cudaDriverGetVersion", lambda: (0, 13060))
    add(describe(path, settings), "driver")
    monkeypatch.setattr(gpu, "_DRIVER_FILE", release)
    release.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
    )
    add(describe(path, settings), "driver")
    assert seen[-1]["driver"] == "13.6 580.65.06"
    weights = affine_bundle.path / "affine.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    add(describe(path, settings), "weights")
    path.write_bytes(path.read_bytes() + b"\x32\x00")  # an empty documentation string
    add(describe(path, settings), "graph")
    assert seen[-1].keys() - {"kind", "file"} == {
        *("graph", "weights", "tensorrt", "gpu", "gpu_bytes", "compute_capability", "driver"),
        *("cuda", "settings", "builder"),
    }


def test_probe(fake: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe_engine("tensorrt").detail == (
        "TensorRT 11.1.0 on Fake GPU, precision of the graph, no TF32"
    )
    fake.cudart.fail["cudaGetDeviceCount"] = 100
    assert probe_engine("tensorrt").detail == (
        "no NVIDIA GPU is seen (cudaErrorNoDevice); take another engine"
    )
    fake.cudart.fail["cudaGetDeviceCount"] = 35
    assert "no NVIDIA driver, or one too old" in probe_engine("tensorrt").detail
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.9.0")
    assert probe_engine("tensorrt").detail == (
        "TensorRT 10.9.0 found, want 11 or newer; pip install -U 'keyvid[tensorrt]'"
    )


@pytest.mark.parametrize("package", ["tensorrt", "cuda.bindings.runtime"])
def test_what_is_missing_is_said(
    fake: FakeGpu, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    status = probe_engine("tensorrt")
    assert not status.available
    assert status.detail == f"{package} is not installed; pip install 'keyvid[tensorrt]'"


def test_names_of_cuda_python() -> None:
    """Where cuda-python is installed: it has what is used of it."""
    runtime = pytest.importorskip("cuda.bindings.runtime")
    for name in [*WORK, *CAPTURE, *FREE, "cudaStreamSynchronize", "cudaGraphLaunch"]:
        assert callable(getattr(runtime, name))
    assert {"name", "major", "minor", "totalGlobalMem"} <= set(dir(runtime.cudaDeviceProp))
    assert int(runtime.cudaStreamNonBlocking) == 1
    try:
        find_gpu()
    except EngineError as error:
        assert "cudaError" in str(error)  # noqa: PT017


def test_plans_are_built_ahead(fake: FakeGpu, affine_bundle: Bundle) -> None:
    lines: list[str] = []
    (report,) = build_plans(affine_bundle, "tensorrt", ["affine"], lines.append)
    assert lines == ["affine.onnx: plan 1 of 1", "affine.onnx: Building, 3 steps"]
    assert report.graph == "affine.onnx"
    assert report.record["seconds"] > 0
    open_engine(affine_bundle, "affine", engine="tensorrt").close()
    assert len(fake.events("build")) == 1
    (again,) = build_plans(affine_bundle, "tensorrt", ["affine"])
    assert again == report
    assert len(fake.events("build")) == 1
    assert "affine.onnx" in format_plans([report])


def test_a_plan_that_cannot_be_built_is_named(fake: FakeGpu, affine_bundle: Bundle) -> None:
    fake.set(errors=["no such operator"])
    with pytest.raises(EngineError, match=r"affine.onnx: TensorRT cannot read the graph"):
        list(build_plans(affine_bundle, "tensorrt-streaming", ["affine"]))


def test_verification_sees_engine_and_gpu(fake: FakeGpu, affine_bundle: Bundle) -> None:
    (report,) = verify_engine(affine_bundle, "tensorrt")
    assert report.error is None  # the bundle holds no outcome; the run itself is what is seen
    assert report.seconds > 0
    assert report.gpu_bytes is not None
    assert fake.cudart.calls.count("cudaGraphLaunch") >= 3
