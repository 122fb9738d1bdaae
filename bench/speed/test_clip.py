"""A whole clip on each engine, with the bundle's sampling defaults: picture and sound to frames."""

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import Record
from bench.speed.peak_memory import measure_peak
from keyvid.bundle.manifest import Bundle
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.report import count_flop


def test_clip(benchmark: BenchmarkFixture, record: Record, bundle: Bundle, engine: str) -> None:
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
    record("whole clip", engine, count_flop(clip, bundle), measure_peak(bundle, engine))
