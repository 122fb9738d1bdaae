import logging
import threading

import numpy as np
import pytest

from keyvid.bundle.specs import GraphMemory, GraphSpec, TensorSpec
from keyvid.engines.spec import ENGINES
from keyvid.errors import EngineError
from keyvid.runtime.networks import stages
from keyvid.runtime.networks.stages import OpenGraphs, StageRunner
from keyvid.sampling import Sampling


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


def make_unet():
    """Graphs of 4, 2 and 1 branches in each temporal mode, and in a form beside the plain one."""
    memory = GraphMemory(0, 0, 1, 0)
    return [
        GraphSpec(f"{mode}.{form}.b{branches}", {}, {}, memory, branches, mode, form=form)
        for mode in ("windows", "full")
        for form in ("plain", "cuda")
        for branches in (4, 2, 1)
    ]


@pytest.fixture
def open_unet(bundle_of, monkeypatch):
    """`open_unet(file, progress)`: a runner with that as its largest graph, and what it opens."""
    opened = []

    def open_graph(_, stage, graph, *__):
        opened.append(graph.file)
        return DoublingEngine()

    monkeypatch.setattr(stages, "open_graph", open_graph)

    def make(file, progress=None):
        bundle = bundle_of(Sampling(), {"interpolator": make_unet()})
        (largest,) = (graph for graph in make_unet() if graph.file == file)
        graphs = OpenGraphs(bundle, "standin", None, SizesAsStated(1000))
        return StageRunner(graphs, {"interpolator": largest}, progress), opened

    return make


@pytest.mark.parametrize(
    ("largest", "asked", "batch"),
    [(4, 4, 4), (4, 3, 4), (4, 2, 2), (4, 1, 1), (2, 4, 2), (2, 3, 2), (2, 1, 1), (1, 4, 1)],
)
@pytest.mark.parametrize("kind", ["windows.plain", "full.cuda"])
def test_a_step_takes_the_smallest_graph_that_its_branches_fit(
    open_unet, kind, largest, asked, batch
):
    runner, opened = open_unet(f"{kind}.b{largest}")
    with runner.open("interpolator") as stage:
        assert stage.use(asked) == batch
        assert stage.graph.file == f"{kind}.b{batch}"
        assert opened == list(dict.fromkeys([f"{kind}.b{largest}", f"{kind}.b{batch}"]))
        stage(x=np.zeros(1))
    assert runner.calls == {f"{kind}.b{batch}": 1}


def test_a_stage_without_branches_takes_one_row_of_them(runner, engine):
    with runner.open("double") as stage:
        assert stage.use(4) == 1


def test_nobody_has_to_listen(open_unet):
    runner, _ = open_unet("full.plain.b1")
    with runner.open("interpolator") as stage:
        assert list(stage.steps([5, 6])) == [5, 6]
    runner.report_segment(1, 2)


def test_segments_are_reported_where_there_are_several(open_unet):
    reports = []
    runner, _ = open_unet("full.plain.b1", lambda *report: reports.append(report))
    runner.report_segment(0, 1)
    runner.report_segment(0, 2)
    runner.report_segment(1, 2)
    assert reports == [(stages.SEGMENT, 0, 2), (stages.SEGMENT, 1, 2)]


def test_nothing_stays_bound_in_a_graph_that_is_still_open(open_unet, monkeypatch):
    unbound = []
    monkeypatch.setattr(DoublingEngine, "unbind", lambda engine: unbound.append(engine))
    runner, opened = open_unet("full.plain.b2")
    for _ in range(2):
        with runner.open("interpolator") as stage:
            stage.use(2)
    assert len(opened) == 1
    assert len(unbound) == 4, "each time it is taken"


def test_a_graph_is_closed_once(open_unet):
    runner, opened = open_unet("full.plain.b2")
    with runner.open("interpolator"):
        pass
    graph = runner.graphs["interpolator"]
    runner.opened.close(graph)
    runner.opened.close(graph)
    with runner.open("interpolator"):
        pass
    assert opened == [graph.file] * 2


def test_seconds_of_a_stage_add_up(open_unet, monkeypatch, caplog):
    times = iter([0.0, 2.0, 10.0, 13.5])
    monkeypatch.setattr(stages, "perf_counter", lambda: next(times))
    caplog.set_level(logging.INFO, "keyvid")
    runner, _ = open_unet("full.plain.b2")
    for _ in range(2):
        with runner.open("interpolator"):
            pass
    assert runner.seconds == {"interpolator": 5.5}
    assert caplog.messages[-2:] == ["interpolator: 2.00 s", "interpolator: 3.50 s"]


@pytest.fixture
def opening(monkeypatch):
    """`opening(names, size)`: an OpenGraphs with that room, whose graphs take 2 each, and what it
    opens; opening "broken" fails.
    """
    monkeypatch.setattr(stages, "num_cores", lambda: 2)

    def make(names, size, spec=ENGINES["openvino"], threads=None):
        engines = {}
        in_main = []

        def open_graph(_, stage, graph, *__):
            if stage == "broken":
                raise EngineError("broken: cannot be loaded")
            in_main.append(threading.current_thread() is threading.main_thread())
            engines[stage] = DoublingEngine()
            return engines[stage]

        monkeypatch.setattr(stages, "open_graph", open_graph)
        graphs = {name: GraphSpec(name, {}, {}, GraphMemory(0, 0, 2, 0)) for name in names}
        opened = OpenGraphs(None, spec, threads, SizesAsStated(size))
        opened.open_ahead(graphs)
        return opened, graphs, engines, in_main

    return make


def test_graphs_are_opened_ahead_where_all_fit(opening):
    opened, graphs, engines, in_main = opening("abc", 6)
    for name, graph in graphs.items():
        assert opened.get(name, graph) is engines[name]
    assert in_main == [False] * 3
    opened.open_ahead(graphs)
    assert len(in_main) == 3, "they are open"
    opened.close()
    assert all(engine.is_closed for engine in engines.values())


@pytest.mark.parametrize(
    ("size", "spec", "threads"),
    [
        (5, ENGINES["openvino"], None),
        (6, ENGINES["tensorrt"], None),
        (6, ENGINES["openvino"], 1),
    ],
)
def test_or_else_when_they_are_needed(opening, size, spec, threads):
    opened, graphs, _, in_main = opening("abc", size, spec, threads)
    assert in_main == []
    opened.get("a", graphs["a"])
    assert in_main == [True]


def test_an_error_ahead_is_that_of_its_stage(opening):
    opened, graphs, *_ = opening(["a", "broken"], 4)
    opened.get("a", graphs["a"])
    with pytest.raises(EngineError, match="broken: cannot be loaded"):
        opened.get("broken", graphs["broken"])


def test_what_is_not_needed_any_more_is_closed(opening):
    opened, _, engines, _ = opening(["a", "broken", "c"], 6)
    opened.close()  # whether or not its opening had begun
    assert all(engine.is_closed for engine in engines.values())


def test_another_graph_takes_the_room_of_those_ahead(opening):
    opened, graphs, engines, _ = opening("abc", 6)
    other = GraphSpec("other", {}, {}, GraphMemory(0, 0, 6, 0))
    opened.get("other", other)
    ahead = {name: engine for name, engine in engines.items() if name != "other"}
    assert all(engine.is_closed for engine in ahead.values())
    assert opened.get("a", graphs["a"]) is engines["a"]
