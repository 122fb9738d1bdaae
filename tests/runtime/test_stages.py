from types import SimpleNamespace

import numpy as np
import pytest

from keyvid.errors import EngineError
from keyvid.runtime import stages
from keyvid.runtime.stages import StageRunner


class DoublingEngine:
    """Stands in for a stage with input "x" (2, 3) and output "y" = 2 x; keeps what is done."""

    name = "standin"

    def __init__(self):
        self.batches = []
        self.is_closed = False

    def __call__(self, x):
        self.batches.append(x)
        return {"y": 2 * x}

    def close(self):
        self.is_closed = True


@pytest.fixture
def engine(monkeypatch):
    engine = DoublingEngine()
    monkeypatch.setattr(stages, "open_engine", lambda *_, **__: engine)
    return engine


@pytest.fixture
def reports():
    return []


@pytest.fixture
def runner(reports):
    graph = SimpleNamespace(inputs={"x": SimpleNamespace(shape=(2, 3))})
    bundle = SimpleNamespace(graph=lambda _: graph)
    return StageRunner(bundle, "standin", progress=lambda *report: reports.append(report))


def test_rows_go_in_the_batches_that_the_stage_takes(runner, engine, reports):
    rows = np.arange(15.0).reshape(5, 3)
    assert np.array_equal(runner.apply("double", rows), 2 * rows)
    assert [batch.shape for batch in engine.batches] == [(2, 3)] * 3
    assert reports == [("double", done, 3) for done in range(4)]
    assert engine.is_closed
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
