"""Every graph that is exported is one that TensorRT documents, and what it does not is named."""

import json
from importlib import resources

import onnx
import pytest
from onnx import TensorProto, helper

from keyvid.bundle.manifest import Bundle
from keyvid.export import build, tensorrt_check
from keyvid.export.build import ExportError, build_bundle
from keyvid.export.stages import STAGES
from keyvid.export.tensorrt_check import find_problems

FLOAT, HALF, DOUBLE, INT64 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT64,
)


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_in_float32(exported, stage):
    folder, _ = exported
    for graph in Bundle.load(folder).graphs(stage):
        assert find_problems(folder / graph.file) == []


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_in_half_precision(exported_half, stage):
    for graph in Bundle.load(exported_half).graphs(stage):
        assert find_problems(exported_half / graph.file) == []


@pytest.mark.parametrize("stage", STAGES)
def test_half_precision_multiplies_in_half_precision(exported_half, stage):
    for spec in Bundle.load(exported_half).graphs(stage):
        model = onnx.load(exported_half / spec.file, load_external_data=False)
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
        products = [n for n in graph.node if n.op_type in ("MatMul", "Gemm", "Conv")]
        assert products
        assert {types.get(node.output[0], HALF) for node in products} == {HALF}


@pytest.mark.parametrize(
    "file",
    [
        *(f"{name}.onnx" for name in STAGES if name not in ("generator", "interpolator")),
        "generator.b4.onnx",
        "interpolator.b4.full.onnx",
        "interpolator.b4.windows.onnx",
    ],
)
def test_the_packaged_bundle(file):
    assert find_problems(Bundle.load("tiny", verify=False).path / file) == []


@pytest.fixture
def problems(tmp_path):
    """`problems(nodes, ...)`: what is wrong with a graph from float32 x (2, 3) to y."""

    def check(*nodes, x=FLOAT, shape=(2, 3), y=FLOAT, out=(2, 3), constants=(), opset=21):
        graph = helper.make_graph(
            list(nodes),
            "graph",
            [helper.make_tensor_value_info("x", x, shape)],
            [helper.make_tensor_value_info("y", y, out)],
            [helper.make_tensor(name, INT64, [len(v)], v) for name, v in constants],
        )
        domains = {"": opset, **{n.domain: 1 for n in nodes if n.domain}}
        imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
        model = helper.make_model(graph, opset_imports=imports)
        onnx.save(model, tmp_path / "graph.onnx")
        return find_problems(tmp_path / "graph.onnx")

    return check


def node(operator, *inputs, outputs=("y",), name="", **attributes):
    return helper.make_node(operator, inputs or ["x"], list(outputs), name=name, **attributes)


def test_what_is_allowed(problems):
    assert problems(node("Relu")) == []
    assert problems(node("Relu"), x=HALF, y=HALF) == []
    # The shape is int64, which Expand takes as data and Resize does not: it is neither's data.
    shape = node("Reshape", "x", "shape")
    assert problems(shape, constants=[("shape", [3, 2])], out=(3, 2)) == []
    scaled = node("Resize", "x", "", "", "sizes", mode="linear")
    assert problems(scaled, constants=[("sizes", [4, 6])], out=(4, 6)) == []


@pytest.mark.parametrize(
    ("operator", "kind", "message"),
    [
        ("Relu", DOUBLE, "node 'n' (Relu): 'x' is DOUBLE, TensorRT takes FP32, FP16"),
        ("Sqrt", DOUBLE, "node 'n' (Sqrt): 'x' is DOUBLE, TensorRT takes FP32, FP16"),
        ("Det", FLOAT, "node 'n' (Det): TensorRT has no such operator"),
    ],
)
def test_types_and_operators(problems, operator, kind, message):
    shape, out = ((3, 3), ()) if operator == "Det" else ((2, 3), (2, 3))
    first, *_ = problems(node(operator, name="n"), x=kind, y=kind, shape=shape, out=out)
    assert first.startswith(message)


def test_a_cast_to_a_type_that_tensorrt_lacks(problems):
    casts = node("Cast", outputs=["wide"], to=DOUBLE), node("Cast", "wide", to=FLOAT)
    assert "'wide' is DOUBLE" in problems(*casts)[0]


def test_an_opset_that_is_not_documented(problems):
    assert problems(node("Relu"), opset=25) == []
    assert problems(node("Relu"), opset=26) == ["opset 26, TensorRT documents up to 25"]


def test_another_domain(problems):
    first, *rest = problems(node("Relu"), node("Gelu", domain="other", outputs=["z"], name="n"))
    assert first == "operators of domain 'other', TensorRT knows ONNX's own"
    assert "node 'n' (Gelu): TensorRT has no such operator" in rest


@pytest.mark.parametrize("size", ["n", None])
def test_a_shape_that_is_not_known(problems, size):
    (problem,) = problems(node("Relu", name="n"), shape=(size, 3), out=(size, 3))
    assert problem == "node 'n' (Relu): output 'y' has shape (None, 3), which is not fully known"


def test_types_that_do_not_go_together(problems):
    (problem,) = problems(node("Cast", outputs=["h"], to=HALF), node("Add", "x", "h"))
    assert problem.startswith("types or shapes do not fit")


RESTRICTED = {
    "Attention": (
        [node("Attention", "x", "x", "x", q_num_heads=1, kv_num_heads=1)],
        {"shape": (1, 2, 3), "out": (1, 2, 3), "opset": 23},
        "input 'x' has shape (1, 2, 3), want four dimensions",
    ),
    "CumSum": (
        [
            node("ReduceMax", outputs=["m"], keepdims=0),
            node("Cast", "m", outputs=["axis"], to=INT64),
            node("CumSum", "x", "axis"),
        ],
        {},
        "input 'axis' must be constant",
    ),
    "Dropout": (
        [
            node("ReduceMax", outputs=["m"], keepdims=0),
            node("Cast", "m", outputs=["on"], to=TensorProto.BOOL),
            node("Dropout", "x", "", "on"),
        ],
        {},
        "training is chosen by an input",
    ),
    "LayerNormalization": (
        [node("Relu", outputs=["s"]), node("LayerNormalization", "x", "s", outputs=["y", "mean"])],
        {},
        "only the first output is supported",
    ),
    "Resize": (
        [node("Resize", "x", "", "", "sizes", mode="cubic")],
        {"constants": [("sizes", [2, 3])]},
        "mode cubic is not supported",
    ),
    "ScatterND": (
        [node("ScatterND", "x", "at", "x", reduction="add")],
        {"shape": (1, 1), "out": (1, 1), "constants": [("at", [0])]},
        "a reduction is not supported",
    ),
    "ReduceSum": (
        [node("Shape", outputs=["s"], start=1), node("ReduceSum", "x", "s", keepdims=1)],
        {"out": (None, None)},
        "input 's' must be constant",
    ),
}
# The same rule as that for ReduceSum.
LIKE_REDUCE_SUM = {"OneHot", "ReduceMax", "ReduceMean", "Squeeze", "Unsqueeze"}


@pytest.mark.parametrize("operator", RESTRICTED)
def test_restrictions(problems, operator):
    nodes, options, message = RESTRICTED[operator]
    found = [problem for problem in problems(*nodes, **options) if f"({operator})" in problem]
    assert any(problem.endswith(message) for problem in found), found


def test_no_restriction_is_forgotten():
    file = resources.files("keyvid.export") / "tensorrt_operators.json"
    stated = set(json.loads(file.read_text())["restrictions"])
    assert stated == set(RESTRICTED) | LIKE_REDUCE_SUM
    assert stated == tensorrt_check._RESTRICTIONS.keys() | tensorrt_check._CONSTANT_INPUTS.keys()


def test_the_exporter_names_the_node(tmp_path, source, monkeypatch):
    monkeypatch.setattr(build, "find_problems", lambda _: ["node 'n' (Det): no", "another"])
    with pytest.raises(ExportError, match=r"localizer.onnx: 2 reasons .* node 'n' \(Det\): no;"):
        build_bundle(source, tmp_path / "half", ["localizer"], precision="fp16", verify=False)
    assert list(tmp_path.iterdir()) == []
    build_bundle(source, tmp_path / "full", ["localizer"], verify=False)
