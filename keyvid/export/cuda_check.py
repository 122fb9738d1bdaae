"""Whether ONNX Runtime has a CUDA kernel for each node of a graph, as far as its table tells.

`cuda_kernels.json` beside this module holds what we use of ONNX Runtime's table of kernels: the
versions of each operator that its CUDA provider takes, and the types, which are those of the output
and of the first input, or of the one that "input" counts. A node without a kernel would run on the
CPU, and its inputs and outputs travel. That kernels are listed proves nothing about speed.
"""

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import onnx

_TYPES = {
    onnx.TensorProto.FLOAT: "float",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
}


def find_cpu_nodes(path: Path) -> list[str]:
    """The nodes of the ONNX graph at `path` that have no CUDA kernel, a line each with the reason.

    Every value's type is stated in the graph; weights outside it are not read.
    """
    model = onnx.load(path, load_external_data=False)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    graph, types = model.graph, {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    problems = []
    for node in graph.node:
        if node.op_type == "Constant":  # becomes a weight
            continue
        version = _since_version(node.op_type, node.domain, opsets[node.domain])
        where = f"node {node.name or node.output[0]!r} ({node.op_type})"
        kernels = _kernels()["kernels"].get(node.op_type, [])
        kernel = next((kernel for kernel in kernels if version in range(*_bounds(kernel))), None)
        if kernel is None:
            problems.append(f"{where}: no CUDA kernel for version {version}")
            continue
        typed = (node.input[kernel.get("input", 0)], node.output[0])
        found = [_TYPES.get(types[name], "unknown") for name in typed]
        if not set(found) <= set(kernel["types"]):
            problems.append(f"{where}: no CUDA kernel from {found[0]} to {found[1]}")
    return problems


def _since_version(operator: str, domain: str, opset: int) -> int:
    """The opset in which the operator became what it is in `opset`."""
    if domain:  # ONNX Runtime's own, which onnx does not know
        return opset
    return int(onnx.defs.get_schema(operator, opset).since_version)


def _bounds(kernel: dict[str, Any]) -> tuple[int, int]:
    """A kernel without a last version is for its first alone, whatever it could do."""
    return kernel["first"], kernel.get("last", kernel["first"]) + 1


@cache
def _kernels() -> dict[str, Any]:
    text = resources.files("keyvid.export").joinpath("cuda_kernels.json").read_text("utf-8")
    table: dict[str, Any] = json.loads(text)
    return table
