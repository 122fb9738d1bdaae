"""What a graph needs in memory, against small graphs whose needs are counted by hand."""

import onnx
import pytest
from onnx import TensorProto, helper

from keyvid.bundle.specs import GraphMemory
from keyvid.export.liveness import graph_memory

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def save(tmp_path):
    """`save(nodes, weights, **values)`: a graph from "x" to "y"; shapes of all its values."""

    def write(nodes, weights=(), **shapes):
        values = {name: helper.make_tensor_value_info(name, FLOAT, s) for name, s in shapes.items()}
        graph = helper.make_graph(
            nodes,
            "graph",
            [values.pop("x")],
            [values.pop("y")],
            [helper.make_tensor(name, kind, [n], [0.0] * n) for name, kind, n in weights],
            value_info=list(values.values()),
        )
        path = tmp_path / "graph.onnx"
        onnx.save(helper.make_model(graph), path)
        return path

    return write


def node(kind, inputs, output):
    return helper.make_node(kind, inputs.split(), [output])


def test_values_die_with_their_last_use(save):
    nodes = [node("Relu", "x", "a"), node("Relu", "a", "b"), node("Add", "b b", "y")]
    path = save(nodes, x=[100], a=[100], b=[100], y=[100])
    assert graph_memory(path) == GraphMemory(0, 0, 800, 0)  # never three at a time; inputs are lent


def test_a_skip_connection_stays(save):
    nodes = [node("Relu", "x", "a"), node("Relu", "a", "b"), node("Relu", "b", "c")]
    path = save([*nodes, node("Add", "a c", "y")], x=[100], a=[100], b=[100], c=[100], y=[100])
    assert graph_memory(path) == GraphMemory(0, 0, 1200, 0)


def test_a_view_takes_no_memory_and_keeps_what_it_shows(save):
    nodes = [
        node("Relu", "x", "a"),
        node("Squeeze", "a", "view"),
        node("Relu", "x", "b"),
        node("Add", "view b", "y"),
    ]
    path = save(nodes, x=[1, 100], a=[1, 100], view=[100], b=[1, 100], y=[1, 100])
    assert graph_memory(path) == GraphMemory(0, 0, 1200, 0)


def test_scores_are_told_apart(save):
    nodes = [node("MatMul", "x x", "s"), node("Softmax", "s", "p"), node("MatMul", "p x", "y")]
    path = save(nodes, x=[10, 10], s=[10, 10], p=[10, 10], y=[10, 10])
    assert graph_memory(path) == GraphMemory(0, 0, 400, 400)


def test_no_two_of_the_four_are_confused(save):
    """Weights of 3 and 50 numbers of which the second is cast, two values, one score matrix."""
    nodes = [
        helper.make_node("Cast", ["w"], ["v"], to=FLOAT),
        node("Add", "x v", "a"),
        node("Mul", "a b", "s"),
        node("Softmax", "s", "p"),
        node("Add", "p a", "y"),
    ]
    weights = [("w", HALF, 50), ("b", FLOAT, 1)]
    path = save(nodes, weights, x=[50], v=[50], a=[50], s=[50], p=[50], y=[50])
    # Without scores "a" and "y" are the most at one time; with them "a", "s" and "p", or "p".
    assert graph_memory(path) == GraphMemory(204, 200, 400, 200)


def test_the_cast_of_a_value_is_one(save):
    nodes = [helper.make_node("Cast", ["x"], ["v"], to=FLOAT), node("Add", "v v", "y")]
    assert graph_memory(save(nodes, x=[50], v=[50], y=[50])) == GraphMemory(0, 0, 400, 0)


def test_a_value_that_nobody_uses_dies_at_once(save):
    nodes = [node("Relu", "x", "a"), node("Relu", "x", "b"), node("Relu", "b", "y")]
    path = save(nodes, x=[100], a=[100], b=[100], y=[100])
    assert graph_memory(path) == GraphMemory(0, 0, 800, 0)


def test_half_precision_counts_as_what_it_becomes(save):
    nodes = [helper.make_node("Cast", ["w"], ["v"], to=FLOAT), node("Add", "x v", "y")]
    path = save(nodes, [("w", HALF, 50)], x=[50], v=[50], y=[50])
    assert graph_memory(path) == GraphMemory(200, 200, 200, 0)  # the cast weight is no value
