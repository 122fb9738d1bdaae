"""ONNX Runtime on the CPU, and on a GPU as far as it can be shown without: its I/O binding with the
provider for the CPU, and that it refuses to run where only the CPU would.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.engines import onnxruntime_engine
from keyvid.engines.engine import Engine, open_engine, probe_engine
from keyvid.engines.onnxruntime_engine import OnnxRuntimeRunner
from keyvid.engines.spec import ENGINES
from keyvid.engines.verification import verify_engine
from keyvid.errors import EngineError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What is found once a process is found anew."""
    for function in (onnxruntime_engine.probe, onnxruntime_engine._import):
        function.cache_clear()
    yield
    for function in (onnxruntime_engine.probe, onnxruntime_engine._import):
        function.cache_clear()


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine on the CPU provider, with the same calls."""
    providers = onnxruntime_engine._PROVIDERS
    there = {"name": "CPUExecutionProvider", "memory": "cpu", "options": {}}
    # What a provider does not know it ignores, so that these sessions "record".
    monkeypatch.setitem(providers, "gpu", replace(providers["gpu"], **there))


@pytest.fixture
def engine(affine_bundle: Bundle, on_cpu: None) -> Engine:
    return open_engine(affine_bundle, "affine", engine="cuda")


def test_output(engine: Engine, affine: SimpleNamespace) -> None:
    outputs = []
    for seed in range(3):
        inputs = affine.draw(seed)
        outputs.append((engine(**inputs)["y"], affine.expected(**inputs)))
    for y, expected in outputs:  # compared at the end: a later run does not write into them
        np.testing.assert_allclose(y, expected, atol=1e-5)


def test_bound_inputs_go_to_the_device_once(
    engine: Engine, affine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, updated = [], []
    value = onnxruntime.OrtValue

    class Counting:
        ortvalue_from_shape_and_type = value.ortvalue_from_shape_and_type

        @staticmethod
        def ortvalue_from_numpy(array: np.ndarray, *device: object) -> object:
            made.append(array.shape)
            return value.ortvalue_from_numpy(array, *device)

    monkeypatch.setattr(onnxruntime, "OrtValue", Counting)
    update = value.update_inplace
    monkeypatch.setattr(
        value,
        "update_inplace",
        lambda self, array: updated.append(array.shape) or update(self, array),
    )
    bound = affine.draw(9)
    engine.bind(bias=bound["bias"], row=bound["row"])
    for seed in range(3):
        x = affine.draw(seed)["x"]
        expected = affine.expected(x, bound["bias"], bound["row"])
        np.testing.assert_allclose(engine(x=x)["y"], expected, atol=1e-5)
    assert sorted(made) == [(1, 32), (2, 1), (2, 64)]
    assert updated == [(2, 64)] * 2


def test_close(engine: Engine, affine: SimpleNamespace) -> None:
    engine(**affine.draw(0))
    engine.close()
    with pytest.raises(EngineError):
        engine(**affine.draw(0))


def test_an_installation_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert probe_engine("cuda").detail == (
        f"onnxruntime {onnxruntime.__version__} is for the CPU; "
        "pip uninstall onnxruntime; pip install 'keyvid[cuda]'"
    )


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="it may work here"
)
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_load_is_no_engine(
    affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime gives a session on the CPU then, without an error."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    status = probe_engine("cuda")
    assert not status.available
    assert status.detail.startswith("the CUDA provider of ONNX Runtime does not load")
    with pytest.raises(EngineError, match="engine cuda cannot be used: the CUDA provider"):
        open_engine(affine_bundle, "affine", engine="cuda")
    with pytest.raises(EngineError, match="the CUDA provider of ONNX Runtime does not load"):
        OnnxRuntimeRunner(ENGINES["cuda"], affine_bundle.path / "affine.onnx", None)


def test_the_smallest_graph_is_one() -> None:
    model = onnx.load_from_string(onnxruntime_engine._SMALLEST_GRAPH)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Relu"]


def test_nodes_left_to_the_cpu_are_said(
    affine_bundle: Bundle, on_cpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked for none there, ONNX Runtime refuses this provider; it is taken all the same."""
    OnnxRuntimeRunner(ENGINES["cuda"], affine_bundle.path / "affine.onnx", None)
    assert "affine.onnx: parts of it run on the CPU" in caplog.text


def test_what_cannot_be_recorded_runs_all_the_same(
    affine_bundle: Bundle,
    affine: SimpleNamespace,
    on_cpu: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(onnxruntime_engine, "_STRICT", {})  # as if all nodes were on the GPU
    engine = open_engine(affine_bundle, "affine", engine="cuda")
    first = engine._runner._session

    def fail(binding: object) -> None:
        raise RuntimeError("capture is not permitted")

    monkeypatch.setattr(first, "run_with_iobinding", fail)
    for seed in range(2):
        inputs = affine.draw(seed)
        np.testing.assert_allclose(engine(**inputs)["y"], affine.expected(**inputs), atol=1e-5)
    assert engine._runner._session is not first
    message = "affine.onnx: not recorded as a CUDA graph: capture is not permitted"
    assert [record.getMessage() for record in caplog.records if "CUDA graph" in record.msg] == [
        message
    ]


def test_recorded_runs_do_not_hide_errors(
    affine_bundle: Bundle, affine: SimpleNamespace, on_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the recording is tried again; here nothing is recorded."""
    engine = open_engine(affine_bundle, "affine", engine="cuda")

    def fail(binding: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._runner._session, "run_with_iobinding", fail)
    with pytest.raises(EngineError, match="engine cuda failed: out of memory"):
        engine(**affine.draw(0))


@pytest.fixture
def two_forms(affine_bundle: Bundle) -> Bundle:
    """The bundle with a second graph of its stage, made for CUDA."""
    spec = affine_bundle.stages["affine"]
    (plain,) = spec.graphs
    shutil.copyfile(affine_bundle.path / plain.file, affine_bundle.path / "affine.cuda.onnx")
    cuda = replace(plain, file="affine.cuda.onnx", form="cuda")
    files = {**affine_bundle.files, cuda.file: affine_bundle.files[plain.file]}
    stages = {"affine": replace(spec, graphs=(plain, cuda))}
    write_manifest(affine_bundle.path, replace(affine_bundle, stages=stages, files=files))
    return Bundle.load(affine_bundle.path)


def test_each_engine_takes_its_form(
    two_forms: Bundle, on_cpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    taken = {
        name: open_engine(two_forms, "affine", engine=name)._graph.file
        for name in ("cuda", "onnxruntime")
    }
    assert taken == {"cuda": "affine.cuda.onnx", "onnxruntime": "affine.onnx"}
    assert "a graph for all engines" not in caplog.text
    plain = open_engine(two_forms, "affine", engine="cuda", form="plain")
    assert plain._graph.file == "affine.onnx"
    assert two_forms.graph("affine").form == "plain"


def test_without_its_form_an_engine_takes_the_plain_one_and_says_so(
    affine_bundle: Bundle, on_cpu: None, caplog: pytest.LogCaptureFixture
) -> None:
    open_engine(affine_bundle, "affine", engine="cuda")
    assert (
        "affine.onnx: a graph for all engines, which cuda runs slower than its own; "
        "keyvid-export --for cuda makes those"
    ) in caplog.text


def test_verification_runs_the_form_of_the_engine(two_forms: Bundle, on_cpu: None) -> None:
    files = {
        name: [report.graph for report in verify_engine(two_forms, name)]
        for name in ("cuda", "onnxruntime")
    }
    assert files == {"cuda": ["affine.cuda.onnx"], "onnxruntime": ["affine.onnx"]}


def test_probe_names_device_and_precision(on_cpu: None) -> None:
    detail = probe_engine("cuda").detail
    assert detail == (
        f"ONNX Runtime {onnxruntime.__version__} on CUDA, precision of the graph, no TF32"
    )
