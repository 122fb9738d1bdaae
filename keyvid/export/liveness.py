"""How much memory a graph needs, told from its shapes."""

from math import prod
from pathlib import Path

import onnx_ir as ir

from keyvid.bundle.specs import GraphMemory

# Operators whose result is their first input under another shape.
_VIEWS = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}


def graph_memory(path: Path) -> GraphMemory:
    """What the graph at `path`, whose shapes are static, needs; its nodes run in order."""
    graph = ir.load(path).graph
    folded = {node.outputs[0] for node in graph if _is_cast_weight(node)}
    scores = {
        value
        for node in graph
        if node.op_type == "Softmax"
        for value in (node.inputs[0], node.outputs[0])
        if value is not None
    }
    values, with_scores = _peak(graph, folded | scores), _peak(graph, folded)
    weights = sum(map(_size, graph.initializers.values()))
    return GraphMemory(weights, sum(map(_size, folded)), values, with_scores - values)


def _is_cast_weight(node: ir.Node) -> bool:
    """Whether engines compute the node as they load: the cast of a stored weight."""
    stored = node.inputs[0] if node.op_type == "Cast" else None
    return stored is not None and stored.is_initializer()


def _peak(graph: ir.Graph, free: set[ir.Value]) -> int:
    """Most bytes at one time, where the values in `free` take none."""
    stored: dict[ir.Value, ir.Value] = {}  # value -> the one in whose memory it lies
    last_use: dict[ir.Value, int] = {}
    for index, node in enumerate(graph):
        inputs = [stored.get(value, value) for value in node.inputs if value is not None]
        for value in node.outputs:
            is_view = node.op_type in _VIEWS
            stored[value] = inputs[0] if is_view else value
            last_use.setdefault(stored[value], index)
        last_use.update((value, index) for value in inputs)
    last_use.update((stored[value], len(graph)) for value in graph.outputs)
    ends: dict[int, list[ir.Value]] = {}
    for value, index in last_use.items():
        ends.setdefault(index, []).append(value)

    alive = peak = 0
    for index, node in enumerate(graph):
        alive += sum(_size(v) for v in node.outputs if stored[v] is v and v not in free)
        peak = max(peak, alive)
        done = (v for v in ends.get(index, ()) if v.producer() is not None and v not in free)
        alive -= sum(map(_size, done))
    return peak


def _size(value: ir.Value) -> int:
    """Bytes of a value of known shape and type; half precision counts as float32."""
    assert value.shape is not None
    assert value.dtype is not None
    return prod(value.shape.numpy()) * max(4, int(value.dtype.itemsize))
