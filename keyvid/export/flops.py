"""Floating point operations of a graph: products and convolutions, multiply-add = 2."""

from math import prod
from pathlib import Path

import onnx


def count_graph_flops(path: Path) -> int:
    """FLOPs of a static ONNX graph."""
    model = onnx.load(path, load_external_data=False)
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    flops = 0
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            summed = shapes[node.input[0]][0 if transposed else -1]
        elif node.op_type == "Conv":
            summed = prod(shapes[node.input[1]][1:])
        elif node.op_type == "MultiHeadAttention":  # with the keys, then with the values
            summed = 2 * shapes[node.input[1]][1]
        elif node.op_type in ("Attention", "ConvTranspose", "Einsum"):
            raise NotImplementedError(f"{path}: no rule to count {node.op_type}; add one")
        else:
            continue
        products = summed * prod(shapes[node.output[0]])
        if not products:
            raise ValueError(f"{path}: the shapes at {node.name} are not static")
        flops += 2 * products
    return flops
