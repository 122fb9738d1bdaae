"""Stages of a bundle, opened when they are needed and closed when they are done."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TypeVar

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import Engine, open_engine
from keyvid.errors import EngineError

Progress = Callable[[str, int, int], None]
Row = TypeVar("Row")

log = logging.getLogger(__name__)


class Stage:
    """An open stage: its engine, and how far it is."""

    def __init__(self, name: str, engine: Engine, progress: Progress | None) -> None:
        self.name = name
        self._engine = engine
        self._progress = progress
        self._step = self._num_steps = 0

    def steps(self, rows: Sequence[Row]) -> Iterator[Row]:
        """`rows`, each one reported as a step of this stage when it is done."""
        self._step, self._num_steps = 0, len(rows)
        self._report()
        for row in rows:
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
        if not np.isfinite(output).all():
            raise EngineError(
                f"{self.name}: NaN or infinity in step {self._step + 1} of {self._num_steps} "
                f"with engine {self._engine.name}; try another engine or a float32 bundle"
            )
        return output

    def _report(self) -> None:
        if self._progress:
            self._progress(self.name, self._step, self._num_steps)


@dataclass
class StageRunner:
    """Opens the stages of `bundle` one after the other.

    Attributes:
        engine: name of the engine for all stages.
        threads: CPU threads, None for the engine's own choice.
        progress: called with stage, steps done and number of steps.
        seconds: time from opening to closing, per stage that has run.
    """

    bundle: Bundle
    engine: str
    threads: int | None = None
    progress: Progress | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def open(
        self, name: str, *, branches: int | None = None, temporal: str | None = None
    ) -> Iterator[Stage]:
        """The stage `name`, closed again at the end of the `with` block."""
        start = perf_counter()
        engine = open_engine(
            self.bundle,
            name,
            engine=self.engine,
            branches=branches,
            temporal=temporal,
            threads=self.threads,
        )
        try:
            yield Stage(name, engine, self.progress)
        finally:
            engine.close()
        self.seconds[name] = perf_counter() - start
        log.info("%s: %.2f s", name, self.seconds[name])

    def apply(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Run a stage that has one input over `rows`, as many at a time as it takes.

        Args:
            rows: (n, ...) in the input's layout and dtype.
        Returns:
            (n, ...) outputs, one per row.
        """
        ((key, spec),) = self.bundle.graph(name).inputs.items()
        batch = spec.shape[0]
        with self.open(name) as stage:
            outputs = []
            for start in stage.steps(range(0, len(rows), batch)):
                index = np.arange(start, start + batch).clip(max=len(rows) - 1)
                outputs.append(stage(**{key: rows[index]}))
        return np.concatenate(outputs)[: len(rows)]
