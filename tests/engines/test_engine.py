"""The engines compute what a graph says, say what is wrong with an input, and name themselves."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import FileSpec, TensorSpec
from keyvid.engines import engine as engine_module
from keyvid.engines.engine import Engine, choose_engine, open_engine, probe_engine
from keyvid.engines.spec import ENGINES, EngineSpec
from keyvid.errors import BundleError, EngineError, SettingsError

# float32: one matrix product of 64 terms, tanh. bfloat16 keeps 8 bits, so that each of the 64
# products of about 1 is off by up to 2**-9; their signs differ, and tanh only shrinks the error.
TOLERANCES = {name: 0.06 if "bf16" in name else 1e-5 for name in ENGINES}


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    """Each engine that can be used here."""
    status = probe_engine(request.param)
    if not status.available:
        pytest.skip(status.detail)
    return str(request.param)


@pytest.fixture
def engine(affine_bundle: Bundle, name: str) -> Engine:
    return open_engine(affine_bundle, "affine", engine=name, threads=1)


def test_float32_engines_are_installed_for_the_tests() -> None:
    assert probe_engine("openvino").available
    assert probe_engine("onnxruntime").available


def test_output(engine: Engine, affine: SimpleNamespace) -> None:
    for seed in range(3):
        inputs = affine.draw(seed)
        (y,) = engine(**inputs).values()
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, affine.expected(**inputs), atol=TOLERANCES[engine.name])


def test_bound_inputs_stay(engine: Engine, affine: SimpleNamespace) -> None:
    bound, inputs = affine.draw(0), affine.draw(1)
    bias, row = bound["bias"].copy(), bound["row"].copy()
    engine.bind(bias=bound["bias"], row=bound["row"])
    bound["bias"][:] = np.nan  # the engine has its own copy
    bound["row"][:] = -1
    for x in (inputs["x"], inputs["x"] + 1):
        y = engine(x=x)["y"]
        expected = affine.expected(x, bias, row)
        np.testing.assert_allclose(y, expected, atol=TOLERANCES[engine.name])


def test_bound_inputs_can_be_bound_anew(engine: Engine, affine: SimpleNamespace) -> None:
    inputs = affine.draw(0)
    engine.bind(row=inputs["row"])
    engine.bind(row=inputs["row"] + 1)
    y = engine(x=inputs["x"], bias=inputs["bias"])["y"]
    np.testing.assert_allclose(y, affine.expected(**inputs) + 1, atol=TOLERANCES[engine.name])


def test_what_was_bound_is_forgotten(engine: Engine, affine: SimpleNamespace) -> None:
    inputs = affine.draw(0)
    engine.bind(row=inputs["row"] + 1, bias=inputs["bias"])
    engine.unbind()
    with pytest.raises(EngineError, match="input 'bias' is missing"):
        engine(x=inputs["x"], row=inputs["row"])
    y = engine(**inputs)["y"]
    np.testing.assert_allclose(y, affine.expected(**inputs), atol=TOLERANCES[engine.name])


def test_an_output_survives_the_next_call(engine: Engine, affine: SimpleNamespace) -> None:
    first = engine(**affine.draw(0))["y"]
    copy = first.copy()
    engine(**affine.draw(1))
    np.testing.assert_array_equal(first, copy)


def test_inputs_need_not_be_contiguous(engine: Engine, affine: SimpleNamespace) -> None:
    inputs = affine.draw(0)
    inputs["x"] = np.asfortranarray(inputs["x"])
    assert not inputs["x"].flags.c_contiguous
    y = engine(**inputs)["y"]
    np.testing.assert_allclose(y, affine.expected(**inputs), atol=TOLERANCES[engine.name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 64))}, r"affine\.onnx.*'x' is float64 \(2, 64\), want float32"),
        ({"x": np.zeros((2, 63), np.float32)}, r"'x' is float32 \(2, 63\), want .*\(2, 64\)"),
        ({"row": np.zeros((2, 1), np.int32)}, r"'row' is int32 \(2, 1\), want int64"),
        ({"z": np.zeros(1)}, r"unknown input 'z'; it takes x, bias, row"),
        ({"bias": None}, r"input 'bias' is missing; it takes x, bias, row"),
    ],
)
def test_wrong_inputs(
    engine: Engine,
    affine: SimpleNamespace,
    change: dict[str, np.ndarray | None],
    message: str,
) -> None:
    inputs = {k: v for k, v in (affine.draw(0) | change).items() if v is not None}
    with pytest.raises(EngineError, match=message):
        engine(**inputs)


def test_an_earlier_call_does_not_stand_in_for_a_missing_input(
    engine: Engine, affine: SimpleNamespace
) -> None:
    inputs = affine.draw(0)
    engine(**inputs)
    del inputs["bias"]
    with pytest.raises(EngineError, match="'bias' is missing"):
        engine(**inputs)


def test_a_bound_input_cannot_be_passed(engine: Engine, affine: SimpleNamespace) -> None:
    inputs = affine.draw(0)
    engine.bind(bias=inputs["bias"])
    with pytest.raises(EngineError, match="'bias' is bound"):
        engine(**inputs)


def test_bind_checks_its_inputs(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"'bias' is float32 \(32,\), want float32 \(1, 32\)"):
        engine.bind(bias=np.zeros((32,), np.float32))


def test_close_frees_the_backend(engine: Engine, affine: SimpleNamespace) -> None:
    engine.close()
    with pytest.raises(EngineError):
        engine(**affine.draw(0))


def test_a_graph_with_an_operator_that_is_none(affine_bundle: Bundle, name: str) -> None:
    path = affine_bundle.path / "affine.onnx"
    path.write_bytes(path.read_bytes().replace(b"Tanh", b"Tanx"))
    with pytest.raises(EngineError, match=rf"affine\.onnx: engine {name} cannot load it: .") as e:
        open_engine(affine_bundle, "affine", engine=name)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("kind", "tensor", "found"),
    [("inputs", "row", "int64 .2, 1."), ("outputs", "y", "float32 .2, 32."), ("inputs", "z", None)],
)
def test_a_graph_that_is_not_as_the_manifest_says(
    affine_bundle: Bundle, name: str, kind: str, tensor: str, found: str | None
) -> None:
    stage = affine_bundle.stages["affine"]
    wrong = TensorSpec("float32", (2, 2))
    (graph,) = stage.graphs
    graph = replace(graph, **{kind: {**getattr(graph, kind), tensor: wrong}})
    bundle = replace(affine_bundle, stages={"affine": replace(stage, graphs=(graph,))})
    with pytest.raises(BundleError, match=rf"'{tensor}' is {found}, .* says float32 .2, 2.") as e:
        open_engine(bundle, "affine", engine=name)
    assert str(e.value).endswith("export it again with keyvid-export")


def test_bf16_is_what_it_says(affine_bundle: Bundle, affine: SimpleNamespace) -> None:
    """An error that float32 could not make shows that the precision hint arrives."""
    if not probe_engine("openvino-bf16").available:
        pytest.skip("no bfloat16 here")
    inputs = affine.draw(0)
    y = open_engine(affine_bundle, "affine", engine="openvino-bf16")(**inputs)["y"]
    assert np.abs(y - affine.expected(**inputs)).max() > 1e-4


def test_unknown_stage_and_graph(affine_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="no stage 'x'; this bundle has affine"):
        open_engine(affine_bundle, "x")
    with pytest.raises(BundleError, match="0 graphs of affine fit branches 4"):
        open_engine(affine_bundle, "affine", branches=4)


def test_threads_must_be_positive(affine_bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="threads 0: want at least 1"):
        open_engine(affine_bundle, "affine", threads=0)


def test_unknown_engine_lists_the_valid_ones() -> None:
    with pytest.raises(EngineError, match=f"'x'; valid are auto, {', '.join(ENGINES)}"):
        choose_engine("x")


def test_auto_takes_the_first_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[str] = []
    for name in ENGINES:
        _make_available(monkeypatch, *(other for other in ENGINES if other not in before))
        choice = choose_engine("auto")
        assert choice.name == name
        refused = [f"not {other}: no such luck" for other in before]
        assert choice.reason == "; ".join(["first that works here", "fine", *refused])
        before.append(name)


def test_the_order_of_auto() -> None:
    order = ["tensorrt", "tensorrt-rtx", "cuda", "openvino", "onnxruntime"]
    assert list(ENGINES)[:5] == order


def test_auto_prefers_bfloat16_for_large_models(
    monkeypatch: pytest.MonkeyPatch, affine_bundle: Bundle
) -> None:
    on_a_cpu = ["openvino", "openvino-bf16", "onnxruntime"]
    files = affine_bundle.files
    large = replace(affine_bundle, files={**files, "large": FileSpec(2**30, "0" * 64)})
    _make_available(monkeypatch, *on_a_cpu)
    assert choose_engine("auto", affine_bundle).name == "openvino"
    assert choose_engine("auto", large).name == "openvino-bf16"
    _make_available(monkeypatch, "openvino", "onnxruntime")
    assert choose_engine("auto", large).name == "openvino"
    _make_available(monkeypatch, "tensorrt", *on_a_cpu)
    assert choose_engine("auto", large).name == "tensorrt"


def test_a_named_engine_never_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_ = ENGINES
    _make_unavailable(monkeypatch, first)
    with pytest.raises(EngineError, match=f"engine {first} cannot be used: no such luck"):
        choose_engine(first)


def test_no_engine_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    _make_unavailable(monkeypatch, *ENGINES)
    with pytest.raises(EngineError, match=r"no engine .*onnxruntime: no such luck"):
        choose_engine()


def test_bf16_needs_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyvid.engines import openvino_engine

    core = SimpleNamespace(get_property=lambda *_: ["FP32", "INT8"])
    monkeypatch.setattr(openvino_engine, "_core", lambda _: core)
    monkeypatch.setattr(openvino_engine, "_settings_of_small", lambda _: {})
    assert probe_engine("openvino").available
    assert probe_engine("openvino-bf16").detail.startswith("this processor has no bfloat16")


def test_avx512_alone_is_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyvid.engines import openvino_engine, processor

    core = SimpleNamespace(get_property=lambda *_: ["FP32", "BF16"])
    for flags, has in ((("avx512f",), False), (("avx512f", "avx512_bf16"), True), ((), True)):
        monkeypatch.setattr(processor, "features", lambda flags=flags: flags)
        assert openvino_engine._has_bfloat16(core) == has


@pytest.mark.parametrize("limit", ["AVX", "SSE41"])
def test_a_processor_without_avx2(limit: str) -> None:
    """OpenVINO says only when it compiles that it has no kernels."""
    code = """
        from keyvid.engines.engine import choose_engine, probe_engine
        print(probe_engine("openvino").detail)
        print(probe_engine("openvino-bf16").available)
        print(choose_engine().name)
    """
    detail, has_bfloat16, choice = _python(code, ONEDNN_MAX_CPU_ISA=limit).splitlines()
    if detail.startswith("OpenVINO 2"):
        pytest.skip("not a processor that has AVX2 and can do without")
    assert detail.startswith("OpenVINO has no kernels for this processor, which may lack AVX2 (")
    assert detail.endswith("; take engine onnxruntime")
    assert has_bfloat16 == "False"
    assert choice == "onnxruntime"


@pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
def test_a_backend_that_is_not_installed(package: str) -> None:
    code = f"""
        import sys
        sys.modules[{package!r}] = None
        from keyvid.engines.engine import choose_engine, probe_engine
        print(probe_engine({package!r}).detail)
        print(choose_engine().name)
    """
    detail, choice = _python(code).splitlines()
    assert detail == f"{package} is not installed; pip install 'keyvid[cpu]'"
    assert choice == ("onnxruntime" if package == "openvino" else "openvino")


def test_backends_stay_quiet_and_at_home(affine_bundle: Bundle, name: str, tmp_path: Path) -> None:
    """No torch, no telemetry, not a byte of output; in the home folder only our own cache."""
    code = f"""
        import sys
        import numpy as np
        from keyvid.bundle.manifest import Bundle
        from keyvid.engines.engine import open_engine
        engine = open_engine(Bundle.load({str(affine_bundle.path)!r}), "affine", engine={name!r})
        engine(x=np.zeros((2, 64), np.float32), bias=np.zeros((1, 32), np.float32),
               row=np.zeros((2, 1), np.int64))
        engine.close()
        assert "torch" not in sys.modules
        assert "openvino_telemetry" not in sys.modules
    """
    home = tmp_path / "home"
    home.mkdir()
    assert _python(code, HOME=str(home), XDG_CACHE_HOME=str(home / "cache")) == ""
    assert {path.name for path in home.iterdir()} <= {"cache"}
    assert {path.name for path in home.glob("cache/*")} <= {"keyvid"}


def test_importing_the_package_is_light() -> None:
    code = """
        import sys
        import keyvid.engines.engine, keyvid.engines.doctor
        heavy = {"torch", "onnx", "onnxruntime", "openvino", "keyvid_ref"} & set(sys.modules)
        print(sorted(heavy))
    """
    assert _python(code) == "[]\n"


def _make_unavailable(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def probe(_: EngineSpec) -> str:
        raise EngineError("no such luck; see elsewhere")

    _replace_probe(monkeypatch, probe, names)


def _make_available(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    others = set(ENGINES) - set(names)
    _replace_probe(monkeypatch, lambda _: "fine", names)
    _make_unavailable(monkeypatch, *others)


def _replace_probe(
    monkeypatch: pytest.MonkeyPatch, probe: Callable[[EngineSpec], str], names: Collection[str]
) -> None:
    backend: Callable[[EngineSpec], object] = engine_module._backend
    monkeypatch.setattr(
        engine_module,
        "_backend",
        lambda spec: SimpleNamespace(probe=probe) if spec.name in names else backend(spec),
    )


def _python(code: str, **environment: str) -> str:
    """Everything that a fresh interpreter prints while it runs `code`."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
