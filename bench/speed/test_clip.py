"""A whole clip on each engine, with the bundle's sampling defaults: picture and sound to frames."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import Record
from bench.speed.peak_memory import measure_peak
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.engine import Engine, open_graph
from keyvid.export.flops import count_graph_flops
from keyvid.runtime import stages
from keyvid.runtime.pipeline import Pipeline


class CountingEngine:
    """An engine that counts its calls in `calls` under the file name of its graph."""

    def __init__(self, engine: Engine, file: str, calls: Counter[str]) -> None:
        self.name, self.bind, self.close = engine.name, engine.bind, engine.close
        self.unbind = engine.unbind
        self._engine, self._file, self._calls = engine, file, calls

    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        self._calls[self._file] += 1
        return self._engine(**inputs)


def test_clip(
    benchmark: BenchmarkFixture,
    record: Record,
    bundle: Bundle,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: Counter[str] = Counter()

    def open_counting(
        bundle: Bundle, stage: str, graph: GraphSpec, *options: Any
    ) -> CountingEngine:
        return CountingEngine(open_graph(bundle, stage, graph, *options), graph.file, calls)

    monkeypatch.setattr(stages, "open_graph", open_counting)
    size = bundle.dimensions
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
    samples = size.frames * size.sample_rate // size.fps
    sound = rng.uniform(-0.5, 0.5, samples).astype(np.float32)
    pipeline = Pipeline.load(bundle.path, engine)

    clip = benchmark.pedantic(  # type: ignore[no-untyped-call]
        pipeline,
        args=(image, (sound, size.sample_rate)),
        kwargs={"prompt": "hammer"},
        rounds=1,  # seconds long: each step of it is a repetition already
    )

    assert clip.frames.shape == (size.frames, size.height, size.width, 3)
    flops = sum(count * count_graph_flops(bundle.path / file) for file, count in calls.items())
    record("whole clip", engine, flops, measure_peak(bundle, engine))
