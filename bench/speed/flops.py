"""Floating point operations of products and convolutions, multiply-add = 2; nothing is run.

Two counters, for what is at hand: a torch module or an exported graph. A graph computes once what
its branches share, so that with several branches it has fewer than the module.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import prod
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_module_flops(
    module: nn.Module, call: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> int:
    """FLOPs of `call(module, *inputs)`.

    Args:
        module: on any device, also "meta".
        inputs: examples, of which only shapes and types count.
    """
    # Attention in steps, whose products are all counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call(_outline(module), *(x.to("meta") for x in inputs))
    return int(counter.get_total_flops())


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


def _outline(module: nn.Module) -> nn.Module:
    """A copy of the module without the numbers in its parameters and buffers."""
    copies: dict[int, object] = {
        id(x): torch.empty_like(x, device="meta") for x in module.buffers()
    }
    for x in module.parameters():
        copies[id(x)] = nn.Parameter(torch.empty_like(x, device="meta"))
    return deepcopy(module, copies)
