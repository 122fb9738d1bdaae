"""Stages of a bundle: opened when they are needed, kept open while the memory allows."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.engine import Engine, open_graph
from keyvid.engines.processor import num_cores
from keyvid.engines.spec import EngineSpec
from keyvid.errors import EngineError
from keyvid.runtime.networks.budget import Budget

# Called with a stage, how many of its steps are done and how many there are; in a clip of several
# segments also with SEGMENT and how many of them are done, before each of them.
Progress = Callable[[str, int, int], None]
SEGMENT = "segment"
Row = TypeVar("Row")

_OPENERS = 2  # graphs that are opened at a time: the longest two take most of the time

log = logging.getLogger(__name__)


class OpenGraphs:
    """The graphs of a bundle that are open; those that do not fit beside a new one are closed.

    Args:
        spec: the engine for all graphs.
        threads: CPU threads, None for the engine's own choice.
    """

    def __init__(
        self, bundle: Bundle, spec: EngineSpec, threads: int | None, budget: Budget
    ) -> None:
        self.bundle = bundle
        self.budget = budget
        self._spec = spec
        self._threads = threads
        self._open: dict[str, tuple[GraphSpec, Engine]] = {}
        self._ahead: dict[str, tuple[GraphSpec, Future[Engine]]] = {}

    def open_ahead(self, graphs: Mapping[str, GraphSpec]) -> None:
        """Begin to open the graphs of stages in their order, where all fit beside each other.

        Opening takes one thread, so that a second one has time for it. On a GPU it is left alone:
        a plan may be built there, with all of the memory.
        """
        missing = {s: g for s, g in graphs.items() if g.file not in {*self._open, *self._ahead}}
        most = min(_OPENERS, self._threads or _OPENERS, num_cores())
        if most < 2 or self._spec.device != "cpu" or not self._fits(*missing.values()):
            return
        with_workers = ThreadPoolExecutor(most, "keyvid-open")
        for stage, graph in missing.items():
            self._ahead[graph.file] = graph, with_workers.submit(self._open_graph, stage, graph)
        with_workers.shutdown(wait=False)

    def get(self, stage: str, graph: GraphSpec) -> Engine:
        """The graph of a stage made callable, nothing bound."""
        if graph.file not in self._open:
            if graph.file in self._ahead:
                _, opening = self._ahead.pop(graph.file)
                engine = opening.result()
            else:
                self._make_room(graph)
                engine = self._open_graph(stage, graph)
            self._open[graph.file] = graph, engine
        _, engine = self._open[graph.file]
        engine.unbind()
        return engine

    def close(self, graph: GraphSpec | None = None) -> None:
        """Free a graph, or all that are open."""
        if graph is None:
            self._await_ahead()
        for file in [graph.file] if graph else [*self._open]:
            if file in self._open:
                _, engine = self._open.pop(file)
                engine.close()

    def _open_graph(self, stage: str, graph: GraphSpec) -> Engine:
        return open_graph(self.bundle, stage, graph, self._spec, self._threads)

    def _await_ahead(self) -> None:
        """Have all that is being opened among the open ones; an error waits until it is needed."""
        for file, (graph, opening) in self._ahead.items():
            if not opening.cancel() and opening.exception() is None:
                self._open[file] = graph, opening.result()
        self._ahead.clear()

    def _fits(self, *graphs: GraphSpec) -> bool:
        """Whether `graphs` fit beside all that is open or being opened."""
        others = [graph for graph, _ in (*self._open.values(), *self._ahead.values())]
        return sum(map(self.budget.bytes_of, (*graphs, *others))) <= self.budget.room()

    def _make_room(self, graph: GraphSpec) -> None:
        """Close graphs, the largest first, until `graph` fits beside those that stay."""
        if self._ahead and not self._fits(graph):
            self._await_ahead()
        by_size = sorted((kept for kept, _ in self._open.values()), key=self.budget.bytes_of)
        while by_size and not self._fits(graph):
            self.close(by_size.pop())


class OpenStage:
    """An open stage: the graph of it that is in use, and how far it is.

    Attributes:
        graph: what is in use.
    """

    def __init__(self, runner: "StageRunner", name: str) -> None:
        self.name = name
        self._runner = runner
        self._largest = runner.graphs[name]
        self._step = self._num_steps = 0
        self._open(self._largest)

    def use(self, branches: int) -> int:
        """Change to the graph for that many guidance branches; nothing is bound after it.

        Returns:
            Branches per call: as many, or fewer if that is what the memory allows, or more if there
            is no graph for so few.
        """
        most = self._largest.branches
        if most is None:
            return 1
        exported = self._runner.bundle.branches(self.name)
        batch = min((size for size in exported if branches <= size <= most), default=most)
        temporal, form = self._largest.temporal, self._largest.form
        self._open(
            self._runner.bundle.graph(self.name, branches=batch, temporal=temporal, form=form)
        )
        return batch

    def steps(self, rows: Sequence[Row], num_done: int = 0) -> Iterator[Row]:
        """The rows that are left, each one reported as a step of this stage when it is done."""
        self._step, self._num_steps = num_done, len(rows)
        self._report()
        for row in rows[num_done:]:
            yield row
            self._step += 1
            self._report()

    def bind(self, **inputs: np.ndarray) -> None:
        """Set inputs that stay the same in all later calls."""
        self._engine.bind(**inputs)

    def __call__(self, **inputs: np.ndarray) -> np.ndarray:
        """The stage's output.

        Raises:
            EngineError: the output holds NaN or infinity.
        """
        (output,) = self._engine(**inputs).values()
        self._runner.calls[self.graph.file] += 1
        if not np.isfinite(output).all():
            raise EngineError(
                f"{self.name}: NaN or infinity in step {self._step + 1} of {self._num_steps} "
                f"with engine {self._engine.name}; try another engine or a float32 bundle"
            )
        return output

    def _open(self, graph: GraphSpec) -> None:
        self.graph = graph
        self._engine = self._runner.opened.get(self.name, graph)

    def _report(self) -> None:
        if self._runner.progress:
            self._runner.progress(self.name, self._step, self._num_steps)


@dataclass
class StageRunner:
    """The stages for one clip.

    Attributes:
        graphs: which graph of each stage, that with most guidance branches of a U-Net.
        progress: called with stage, steps done and number of steps.
        seconds: time of each stage that has run, opening included.
        calls: how often each graph has run, by its file.
    """

    opened: OpenGraphs
    graphs: Mapping[str, GraphSpec]
    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def bundle(self) -> Bundle:
        """What the stages are of."""
        return self.opened.bundle

    def report_segment(self, index: int, num_segments: int) -> None:
        """Say that a segment begins, where there are several."""
        if self.progress and num_segments > 1:
            self.progress(SEGMENT, index, num_segments)

    @contextmanager
    def open(self, name: str) -> Iterator[OpenStage]:
        """The stage `name`; after an error in the `with` block the graph in use is closed."""
        start = perf_counter()
        stage = OpenStage(self, name)
        try:
            yield stage
        except BaseException:
            self.opened.close(stage.graph)
            raise
        taken = perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + taken
        log.info("%s: %.2f s", name, taken)

    def apply(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Run a stage that has one input over `rows`, as many at a time as it takes.

        Args:
            rows: (n, ...) in the input's layout and dtype.
        Returns:
            (n, ...) outputs, one per row.
        """
        ((key, spec),) = self.graphs[name].inputs.items()
        batch = spec.shape[0]
        with self.open(name) as stage:
            outputs = []
            for start in stage.steps(range(0, len(rows), batch)):
                index = np.arange(start, start + batch).clip(max=len(rows) - 1)
                outputs.append(stage(**{key: rows[index]}))
        return np.concatenate(outputs)[: len(rows)]
