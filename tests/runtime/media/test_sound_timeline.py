"""Pieces of a sound are placed where they belong, whatever they are like."""

import numpy as np
import pytest

from keyvid.runtime.media.sound_timeline import Timeline, resample

RATE = 16_000


def test_channels_may_change_on_the_way() -> None:
    """Into one: their mean. Into several: each as the mean of those that are there."""
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-1, 1, (1000, 2)).astype(np.float32)
    mono = rng.uniform(-1, 1, (500, 1)).astype(np.float32)
    for channels in (1, 2):
        timeline = Timeline(RATE, channels)
        timeline.add(0.0, RATE, stereo)
        timeline.add(None, RATE, mono)
        heard = timeline.cut(0.0, None)
        assert heard.shape == (1500, channels)
        mixed = stereo if channels == 2 else stereo.mean(axis=1, keepdims=True)
        np.testing.assert_allclose(heard[:1000], mixed, atol=1e-7)
        np.testing.assert_allclose(heard[1000:], np.repeat(mono, channels, axis=1), atol=1e-7)


@pytest.mark.parametrize(("at", "is_placed"), [(0.119, False), (0.121, True), (0.079, True)])
def test_a_timestamp_counts_beyond_half_a_frame(at: float, is_placed: bool) -> None:
    """A piece that should begin at 0.1 s and says that it begins elsewhere."""
    timeline = Timeline(RATE, 1)
    timeline.add(0.0, RATE, np.zeros((1600, 1), np.float32))
    timeline.add(at, RATE, np.ones((1600, 1), np.float32))
    first = int(np.flatnonzero(timeline.cut(0.0, None))[0])
    assert first == (round(at * RATE) if is_placed else 1600)


def test_a_cut_begins_and_ends_where_it_is_told() -> None:
    timeline = Timeline(RATE, 1)
    timeline.add(0.5, RATE, np.arange(1, RATE + 1, dtype=np.float32)[:, None])
    assert timeline.end == 1.5
    early = timeline.cut(0.25, 0.5)[:, 0]
    assert len(early) == 8000
    assert not early[:4000].any()
    assert early[4000:].tolist() == list(range(1, 4001))
    late = timeline.cut(1.0, None)[:, 0]
    assert late.tolist() == list(range(8001, 16_001))
    assert timeline.cut(2.0, None).shape == (0, 1)
    assert timeline.cut(1.25, 9.0).shape == (4000, 1)


def test_a_sound_without_timestamps_begins_at_once() -> None:
    timeline = Timeline(RATE, 1)
    assert timeline.end is None
    assert timeline.cut(0.0, None).shape == (0, 1)
    for _ in range(2):
        timeline.add(None, RATE, np.ones((800, 1), np.float32))
    assert timeline.end == 0.1
    assert timeline.cut(0.0, None).all()


@pytest.mark.parametrize("channels", [1, 2])
def test_nothing_stays_nothing_at_another_rate(channels: int) -> None:
    assert resample(np.zeros((0, channels), np.float32), 8000, RATE).shape == (0, channels)
