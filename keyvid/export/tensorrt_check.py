"""Whether TensorRT can take a graph, as far as its documentation tells without TensorRT.

`tensorrt_operators.json` beside this module holds TensorRT's operator table: the types that each
operator takes, its restrictions in words, and the highest opset. That each node is in it is no
proof that an engine builds: what fuses and what fits is seen on the device only.
"""

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

_TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
# Operator -> inputs that must be known when the engine is built.
_CONSTANT_INPUTS = {
    "CumSum": [1],
    "OneHot": [1],
    "ReduceMax": [1],
    "ReduceMean": [1],
    "ReduceSum": [1],
    "Squeeze": [1],
    "Unsqueeze": [1],
}


def find_problems(path: Path) -> list[str]:
    """What TensorRT's documentation does not allow in the ONNX graph at `path`, a line each.

    Checked are the opset, the shape and type of each value, and for each node its operator, the
    types of its inputs and the operator's restrictions. Weights outside the graph are not read.
    """
    model = onnx.load(path, load_external_data=False)
    problems = []
    highest = _table()["opset"]
    for entry in model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            problems.append(f"operators of domain {entry.domain!r}, TensorRT knows ONNX's own")
        elif entry.version > highest:
            problems.append(f"opset {entry.version}, TensorRT documents up to {highest}")
    try:
        model = onnx.shape_inference.infer_shapes(model, True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        return [*problems, f"types or shapes do not fit: {error}".splitlines()[0]]
    graph = _Graph(model)
    for node in model.graph.node:
        where = f"node {node.name or node.output[0]!r} ({node.op_type})"
        problems += [f"{where}: {problem}" for problem in graph.check(node)]
    return problems


class _Graph:
    """Types, shapes and constants of a graph's values by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._opset = max(entry.version for entry in model.opset_import if not entry.domain)
        values = [*graph.input, *graph.output, *graph.value_info]
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._shapes = {value.name: _shape(value) for value in values}
        for weight in graph.initializer:
            self._types[weight.name] = weight.data_type
            self._shapes[weight.name] = tuple(weight.dims)
        self._constants = {weight.name for weight in graph.initializer}
        self._constants |= {n.output[0] for n in graph.node if n.op_type == "Constant"}

    def check(self, node: NodeProto) -> Iterator[str]:
        """What is not allowed in `node`."""
        allowed = _table()["types"].get(node.op_type, "").split()
        if node.domain not in ("", "ai.onnx") or not allowed:
            yield "TensorRT has no such operator"
            return
        for name in self._typed(node):
            if (found := self._type(name)) not in allowed:
                yield f"{name!r} is {found}, TensorRT takes {', '.join(allowed)}"
        for name in filter(None, node.output):
            if self._types.get(name) not in _TYPES:
                yield f"output {name!r} is {self._type(name)}, which TensorRT lacks"
            if None in (shape := self._shapes.get(name, (None,))):
                yield f"output {name!r} has shape {shape}, which is not fully known"
        for index in _CONSTANT_INPUTS.get(node.op_type, []):
            if index < len(node.input) and node.input[index] not in {"", *self._constants}:
                yield f"input {node.input[index]!r} must be constant"
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            yield "has a graph inside, which this check does not look into"
        if restriction := _RESTRICTIONS.get(node.op_type):
            yield from restriction(self, node)

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Shape of a value; a dimension that is not known is None."""
        return self._shapes[name]

    def _type(self, name: str) -> str:
        number = self._types.get(name, 0)
        return _TYPES.get(number, TensorProto.DataType.Name(number))

    def _typed(self, node: NodeProto) -> Iterator[str]:
        """Inputs whose type the operator leaves open, such as data but not the shape of Reshape;
        what a Cast gives; and what a node without inputs gives.
        """
        if node.op_type == "Cast" or not any(node.input):
            yield from node.output
        formal = onnx.defs.get_schema(node.op_type, self._opset).inputs
        for index, name in enumerate(node.input):
            parameter = formal[min(index, len(formal) - 1)]  # the last one may repeat
            known = index in _CONSTANT_INPUTS.get(node.op_type, [])
            if name and len(parameter.types) > 1 and not known:
                yield name


def _attention(graph: _Graph, node: NodeProto) -> Iterator[str]:
    inputs = list(node.input)
    if any(inputs[4:]):
        yield "past keys and values are not supported"
    if any(node.output[1:]):
        yield "present keys and values are not supported"
    if _attribute(node, "softcap", 0.0):
        yield "softcap is not supported"
    for name in filter(None, inputs[:4]):
        if len(graph.shape(name)) != 4:
            yield f"input {name!r} has shape {graph.shape(name)}, want four dimensions"


def _dropout(_: _Graph, node: NodeProto) -> Iterator[str]:
    if any(node.input[2:]):
        yield "training is chosen by an input"


def _layer_normalization(_: _Graph, node: NodeProto) -> Iterator[str]:
    if any(node.output[1:]):
        yield "only the first output is supported"


def _resize(_: _Graph, node: NodeProto) -> Iterator[str]:
    mode = _attribute(node, "mode", b"nearest").decode()
    if mode not in ("nearest", "linear"):
        yield f"mode {mode} is not supported"
    if _attribute(node, "antialias", 0):
        yield "antialiasing is not supported"


def _scatter_nd(_: _Graph, node: NodeProto) -> Iterator[str]:
    if _attribute(node, "reduction", b"none") != b"none":
        yield "a reduction is not supported"


_RESTRICTIONS: dict[str, Callable[[_Graph, NodeProto], Iterator[str]]] = {
    "Attention": _attention,
    "Dropout": _dropout,
    "LayerNormalization": _layer_normalization,
    "Resize": _resize,
    "ScatterND": _scatter_nd,
}


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = (onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, default)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return (None,)
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


@cache
def _table() -> dict[str, Any]:
    file = resources.files("keyvid.export") / "tensorrt_operators.json"
    table: dict[str, Any] = json.loads(file.read_text())
    return table
