"""A whole clip on each engine, with the bundle's sampling defaults: picture and sound to frames."""

from collections import Counter

import numpy as np

from keyvid.engines.engine import open_engine
from keyvid.runtime import stages
from keyvid.runtime.pipeline import Pipeline


class CountingEngine:
    """An engine that counts its calls in `calls` under the file name of its graph."""

    def __init__(self, engine, file, calls):
        self.name, self.bind, self.close = engine.name, engine.bind, engine.close
        self._engine, self._file, self._calls = engine, file, calls

    def __call__(self, **inputs):
        self._calls[self._file] += 1
        return self._engine(**inputs)


def test_clip(benchmark, record, bundle, engine, count_flops, peak_memory, monkeypatch):
    calls = Counter()

    def open_counting(bundle, stage, *, branches=None, temporal=None, **options):
        opened = open_engine(bundle, stage, branches=branches, temporal=temporal, **options)
        graph = bundle.graph(stage, branches=branches, temporal=temporal)
        return CountingEngine(opened, graph.file, calls)

    monkeypatch.setattr(stages, "open_engine", open_counting)
    size = bundle.dimensions
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)
    samples = size.frames * size.sample_rate // size.fps
    sound = rng.uniform(-0.5, 0.5, samples).astype(np.float32)
    pipeline = Pipeline.load(bundle.path, engine)

    clip = benchmark.pedantic(
        pipeline,
        args=(image, (sound, size.sample_rate)),
        kwargs={"prompt": "hammer"},
        rounds=1,  # seconds long: each step of it is a repetition already
    )

    assert clip.frames.shape == (size.frames, size.height, size.width, 3)
    flops = sum(count * count_flops(bundle.path / file) for file, count in calls.items())
    record("whole clip", engine, flops, peak_memory(bundle, engine))
