"""Plans that run, against a stand-in for TensorRT and CUDA: what is called, checked and freed.

That the real ones behave as their documentation says is not shown here; no GPU is used.
"""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.cache import Cache, plan_folder
from keyvid.engines.engine import Engine, open_engine, probe_engine
from keyvid.engines.gpu import find_gpu
from keyvid.engines.tensorrt import engine
from keyvid.engines.tensorrt.plan import SETTINGS, Plan, describe
from keyvid.engines.verification import verify_engine
from keyvid.errors import EngineError

FAKES = Path(__file__).parents[1] / "fakes"
GIB = 1 << 30


class FakeGpu:
    """What the stand-ins shall do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cudart: ModuleType) -> None:
        self._monkeypatch = monkeypatch
        self.cudart = cudart
        self.set()

    def set(self, **options: object) -> None:
        self._monkeypatch.setenv("FAKE_TENSORRT", json.dumps(options))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeGpu]:
    """The stand-ins in the place of what they stand in for."""
    site = tmp_path / "site"
    places = {"tensorrt": "trt.py", "tensorrt_rtx": "trt.py", "cuda/bindings/runtime": "cudart.py"}
    for target, source in places.items():
        (site / target).mkdir(parents=True)
        shutil.copy(FAKES / source, site / target / "__init__.py")
    for package in ("cuda", "cuda/bindings"):
        (site / package / "__init__.py").touch()
    ours = ("tensorrt", "tensorrt_rtx", "cuda")
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    engine._logger.cache_clear()
    from cuda.bindings import runtime

    yield FakeGpu(monkeypatch, runtime)
    engine._logger.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in ours]:
        del sys.modules[name]


def keep_plan(bundle: Bundle, engine: str, targets: tuple[str, ...] = ()) -> Plan:
    """Put a plan for the stand-in into the cache."""
    graph = bundle.path / "affine.onnx"
    plan = Plan(
        describe(graph, SETTINGS[engine], targets), json.dumps({"graph": str(graph)}).encode()
    )
    Cache(plan_folder()).put(plan.ingredients, plan.content)
    return plan


@pytest.fixture
def open_affine(
    fake: FakeGpu, affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Engine]:
    """Opens the engine "tensorrt" of "affine", whose plan is there."""
    keep_plan(affine_bundle, "tensorrt")
    return lambda: open_engine(affine_bundle, "affine", engine="tensorrt")


@pytest.fixture
def open_rtx(fake: FakeGpu, affine_bundle: Bundle) -> Callable[[], Engine]:
    """Opens the engine "tensorrt-rtx" of "affine", whose plan is there, on a card for it."""
    fake.cudart.cudaDeviceProp.minor, fake.cudart.cudaDeviceProp.major = 9, 8
    keep_plan(affine_bundle, "tensorrt-rtx", ("sm86", "sm89"))
    return lambda: open_engine(affine_bundle, "affine", engine="tensorrt-rtx")


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


def test_a_plan_that_is_refused_is_built_again_once(
    fake: FakeGpu,
    open_affine: Callable[[], Engine],
    affine: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    affine_bundle: Bundle,
    caplog: pytest.LogCaptureFixture,
) -> None:
    built = []

    def build(path: Path, *_: object, **__: object) -> Plan:
        built.append(path.name)
        assert list(Cache(plan_folder()).entries()) == []  # the refused one is gone
        return keep_plan(affine_bundle, "tensorrt")

    monkeypatch.setattr(engine, "build_plan", build)
    fake.set(refuse=1)
    check(open_affine(), affine, 0)
    assert built == ["affine.onnx"]
    why = "TensorRT refuses the plan on Fake GPU: made by another version"
    assert f"affine.onnx: {why}; it is built again" in caplog.text
    fake.set(refuse=9)
    with pytest.raises(EngineError, match=why):
        open_affine()
    assert len(built) == 2


def test_kernels_are_compiled_once(
    fake: FakeGpu, open_rtx: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    """What TensorRT for RTX compiled in one process is there in the next one."""
    for compiled in (1, 1):
        engine = open_rtx()
        for seed in range(3):
            check(engine, affine, seed)
        engine.close()
        assert fake.cudart.calls.count("compile") == compiled
    assert fake.cudart.live == {}
    calls = fake.cudart.calls
    assert calls.count("WHOLE_GRAPH_CAPTURE") == calls.count("execute_async_v3") == 6
    assert "cudaStreamBeginCapture" not in calls  # the library captures by itself
    kinds = [entry.ingredients["kind"] for _, entry in Cache(plan_folder()).entries() if entry]
    assert sorted(kinds) == ["TensorRT for RTX plan", "compiled kernels"]


def test_kernels_of_another_driver_are_compiled_anew(
    fake: FakeGpu, open_rtx: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    check(open_rtx(), affine, 0)
    fake.set(stale=True)
    check(open_rtx(), affine, 0)
    fake.cudart.cudaDriverGetVersion = lambda: (0, 13060)
    fake.set()
    check(open_rtx(), affine, 0)  # those of the first driver are not even tried
    assert fake.cudart.calls.count("compile") == 3


def test_kernels_are_not_kept_while_a_plan_is_built(
    open_rtx: Callable[[], Engine], affine: SimpleNamespace
) -> None:
    engine = open_rtx()
    with Cache(plan_folder())._locked():
        check(engine, affine, 0)  # does not wait
    assert len(list(Cache(plan_folder()).entries())) == 1


def test_probe(fake: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe_engine("tensorrt").detail == (
        "TensorRT 11.1.0 on Fake GPU, precision of the graph, no TF32"
    )
    assert probe_engine("tensorrt-streaming").detail.endswith("no TF32, weights on the host")
    assert probe_engine("tensorrt-rtx").detail == (
        "Fake GPU has compute capability 9.0; TensorRT for RTX runs on 7.5, 8.0, 8.6, 8.9, 12.0, "
        "12.1; take another engine"
    )
    fake.cudart.cudaDeviceProp.major = 12
    fake.cudart.cudaDeviceProp.minor = 0
    assert probe_engine("tensorrt-rtx").available
    fake.cudart.fail["cudaGetDeviceCount"] = 100
    assert probe_engine("tensorrt").detail == (
        "no NVIDIA GPU is seen (cudaErrorNoDevice); take another engine"
    )
    fake.cudart.fail["cudaGetDeviceCount"] = 35
    assert "no NVIDIA driver, or one too old" in probe_engine("tensorrt").detail
    fake.cudart.fail.clear()
    monkeypatch.setattr(sys.modules["tensorrt"], "__version__", "10.9.0")
    assert probe_engine("tensorrt").detail == (
        "TensorRT 10.9.0 found, want 11.0 or newer; pip install -U 'keyvid[tensorrt]'"
    )
    monkeypatch.setattr(sys.modules["tensorrt_rtx"], "__version__", "1.6.9")
    assert probe_engine("tensorrt-rtx").detail == (
        "TensorRT for RTX 1.6.9 found, want 1.7 or newer; pip install -U 'keyvid[rtx]'"
    )


@pytest.mark.parametrize(
    ("engine", "package", "install"),
    [
        ("tensorrt", "tensorrt", "'keyvid[tensorrt]'"),
        ("tensorrt-rtx", "tensorrt_rtx", "'keyvid[rtx]'"),
        ("tensorrt", "cuda.bindings.runtime", "cuda-python"),
    ],
)
def test_what_is_missing_is_said(
    fake: FakeGpu, monkeypatch: pytest.MonkeyPatch, engine: str, package: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    status = probe_engine(engine)
    assert not status.available
    assert status.detail == f"{package} is not installed; pip install {install}"


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


def test_verification_sees_engine_and_gpu(fake: FakeGpu, affine_bundle: Bundle) -> None:
    keep_plan(affine_bundle, "tensorrt")
    (report,) = verify_engine(affine_bundle, "tensorrt")
    assert report.error is None  # the bundle holds no outcome; the run itself is what is seen
    assert report.seconds > 0
    assert report.gpu_bytes is not None
    assert fake.cudart.calls.count("cudaGraphLaunch") >= 3
