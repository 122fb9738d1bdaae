import numpy as np
import pytest

from keyvid.bundle.specs import GraphMemory, GraphSpec, TensorSpec
from keyvid.errors import EngineError
from keyvid.runtime.networks import stages
from keyvid.runtime.networks.stages import OpenGraphs, StageRunner


class DoublingEngine:
    """Stands in for a stage with input "x" (2, 3) and output "y" = 2 x; keeps what is done."""

    name = "standin"

    def unbind(self):
        pass

    def __init__(self):
        self.batches = []
        self.is_closed = False

    def __call__(self, x):
        self.batches.append(x)
        return {"y": 2 * x}

    def close(self):
        self.is_closed = True


class SizesAsStated:
    """A budget: a graph takes its values, all together `size`."""

    def __init__(self, size):
        self.size = size

    def bytes_of(self, graph):
        return graph.memory.values

    def room(self):
        return self.size


@pytest.fixture
def engine(monkeypatch):
    engine = DoublingEngine()
    monkeypatch.setattr(stages, "open_graph", lambda *_: engine)
    return engine


@pytest.fixture
def reports():
    return []


@pytest.fixture
def runner(reports):
    graph = GraphSpec(
        "double.onnx", {"x": TensorSpec("float32", (2, 3))}, {}, GraphMemory(0, 0, 0, 0)
    )
    opened = OpenGraphs(None, "standin", None, SizesAsStated(1000))
    return StageRunner(opened, {"double": graph}, lambda *report: reports.append(report))


def test_rows_go_in_the_batches_that_the_stage_takes(runner, engine, reports):
    rows = np.arange(15.0).reshape(5, 3)
    assert np.array_equal(runner.apply("double", rows), 2 * rows)
    assert [batch.shape for batch in engine.batches] == [(2, 3)] * 3
    assert reports == [("double", done, 3) for done in range(4)]
    assert not engine.is_closed
    assert list(runner.seconds) == ["double"]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_names_stage_and_step(runner, engine, wrong):
    rows = np.zeros((5, 3))
    rows[3, 1] = wrong
    with pytest.raises(EngineError, match=r"double: NaN or infinity in step 2 of 3 .* standin"):
        runner.apply("double", rows)
    assert engine.is_closed


def test_an_interrupt_closes_the_stage(runner, engine):
    with pytest.raises(KeyboardInterrupt), runner.open("double"):
        raise KeyboardInterrupt
    assert engine.is_closed


def test_graphs_stay_open_as_far_as_there_is_room(monkeypatch):
    """Before one opens, the largest are closed until it fits."""
    engines = {}

    def open_graph(_, stage, graph, *__):
        engines[graph.file] = DoublingEngine()
        return engines[graph.file]

    monkeypatch.setattr(stages, "open_graph", open_graph)
    opened = OpenGraphs(None, "standin", None, SizesAsStated(10))
    sizes = {"a": 2, "b": 5, "c": 3, "d": 4}
    graphs = {k: GraphSpec(k, {}, {}, GraphMemory(0, 0, v, 0)) for k, v in sizes.items()}
    for name in ("a", "b", "c"):
        opened.get(name, graphs[name])
    assert opened.get("a", graphs["a"]) is engines["a"], "it is still open"
    assert not any(engine.is_closed for engine in engines.values())
    opened.get("d", graphs["d"])
    assert [name for name, engine in engines.items() if engine.is_closed] == ["b"]
    opened.close()
    assert all(engine.is_closed for engine in engines.values())
