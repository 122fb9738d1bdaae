"""A sound that ends within a segment is heard to die away: a break would be heard as an event."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keyvid.runtime import encoding

RATE = 16_000
SIZE = SimpleNamespace(sample_rate=RATE, fps=24, frames=48, mel_bins=64, mel_frames=100)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the networks hear of a sound, as samples."""
    monkeypatch.setattr(encoding, "log_mel", lambda samples, *_: samples)
    stages: Any = SimpleNamespace(bundle=SimpleNamespace(dimensions=SIZE))
    return lambda mono, start=0: encoding.segment_mel(stages, mono, start)


def levels(samples: np.ndarray) -> np.ndarray:
    """Decibels of each tenth of a second."""
    return 20 * np.log10(np.sqrt((samples.reshape(-1, RATE // 10) ** 2).mean(1)) + 1e-9)


def test_what_fills_a_segment_is_heard_as_it_is(heard: Any) -> None:
    noise = np.random.default_rng(0).normal(size=4 * RATE).astype(np.float32)
    np.testing.assert_array_equal(heard(noise), noise[: 2 * RATE])
    np.testing.assert_array_equal(heard(noise, 24), noise[RATE : 3 * RATE])


def test_the_end_fades_without_a_break(heard: Any) -> None:
    noise = np.random.default_rng(0).normal(size=RATE // 2).astype(np.float32)
    samples = heard(noise)
    assert (samples.shape, samples.dtype) == ((2 * RATE,), np.float32)
    np.testing.assert_array_equal(samples[: RATE // 2], noise)
    steps = np.diff(levels(samples)[4:])
    assert (steps < 0.5).all()
    assert (steps > -4).all()
    assert levels(samples)[-1] < -35


@pytest.mark.parametrize("length", [0, 1, 37])
def test_hardly_any_sound(heard: Any, length: int) -> None:
    samples = heard(np.zeros(length, np.float32))
    np.testing.assert_array_equal(samples, np.zeros(2 * RATE, np.float32))
