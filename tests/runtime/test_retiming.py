"""Events of a sound that are moved to beats: where they are heard then, and what stays as it is."""

import numpy as np
import pytest

from keyvid.runtime.motion import draw_beats
from keyvid.runtime.retiming import find_events, move_events, source_times

RATE, SECONDS = 16_000, 2.0


def clicks(*seconds: float) -> np.ndarray:
    """Clicks at these times, the first of them the loudest."""
    sound = np.zeros(round(SECONDS * RATE), np.float32)
    for number, second in enumerate(seconds):
        sound[round(second * RATE)] = 1 - 0.1 * number
    return sound


def heard(sound: np.ndarray) -> list[tuple[float, float]]:
    """Seconds and loudness of the clicks; neighbours that share one are taken as one."""
    places = np.flatnonzero(np.abs(sound) > 0.05)
    groups = np.split(places, np.flatnonzero(np.diff(places) > RATE // 50) + 1)
    return [(float(g.mean() / RATE), float(sound[g].sum())) for g in groups if len(g)]


@pytest.mark.parametrize(
    ("events", "beats", "loudness"),
    [
        ((0.5, 1.2), (0.3, 1.9), (1.0, 0.9)),
        ((0.5, 1.2), (0.9, 1.0), (1.0, 0.9)),
        ((1.2,), (0.1, 0.5, 1.7), (1.0, 1.0, 1.0)),  # one is heard again
        ((0.3, 0.9, 1.4), (0.25,), (1.0,)),  # two are left out
        ((0.3, 0.9), (0.4, 0.8, 1.2, 1.6), (1.0, 0.9, 1.0, 0.9)),
    ],
)
def test_events_are_heard_at_the_beats_and_nowhere_else(
    events: tuple[float, ...], beats: tuple[float, ...], loudness: tuple[float, ...]
) -> None:
    moved = heard(move_events(clicks(*events), RATE, np.array(events), np.array(beats)))
    assert [second for second, _ in moved] == pytest.approx(beats, abs=0.01)  # half a window
    assert [level for _, level in moved] == pytest.approx(loudness, abs=0.3)


def test_a_sound_whose_events_are_at_the_beats_stays_as_it_is() -> None:
    sound = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    at = np.array([0.4, 0.75, 1.5])
    assert np.abs(move_events(sound, RATE, at, at) - sound).max() < 1e-6


def test_around_an_event_the_sound_keeps_its_pace() -> None:
    times = np.array([0.6, 0.7, 0.85])  # about a beat at 0.7, with room on either side
    sources = source_times(times, np.array([1.0]), np.array([0.7]), SECONDS)
    assert sources == pytest.approx(times + 0.3)


def test_any_times_give_a_sound() -> None:
    sound, rng = clicks(0.5), np.random.default_rng(1)
    for _ in range(200):
        events, beats = (np.unique(rng.integers(0, 2000, rng.integers(1, 9))) / 1000 for _ in "ab")
        moved = move_events(sound, RATE, events, beats)
        assert moved.shape == sound.shape
        assert np.isfinite(moved).all()
        times = source_times(np.arange(200) / 100, events, beats, SECONDS)
        assert (np.diff(times) >= -1e-9).all(), "nothing is heard backwards"


def test_events_are_the_peaks_of_what_is_heard() -> None:
    curve = draw_beats(np.array([0.5, 1.25]), 48, 24)
    assert find_events(curve, 24) == pytest.approx([0.5, 1.25])
    between = np.exp(-np.square(np.arange(48) - 20.3) / 8)
    assert find_events(between, 24) == pytest.approx([20.3 / 24], abs=0.005)
    assert not len(find_events(np.full(48, 0.3), 24))
    assert not len(find_events(0.05 * curve, 24)), "hardly anything moves"


def test_what_is_drawn_out_does_not_hum() -> None:
    """The same few windows one after the other would be a tone that the networks hear."""
    noise = np.random.default_rng(2).standard_normal(32_000).astype(np.float32)
    lead = move_events(noise, RATE, np.array([0.3]), np.array([1.8]))[: round(1.5 * RATE)]
    alike = [np.corrcoef(lead[lag:], lead[:-lag])[0, 1] for lag in range(40, 480)]
    assert max(alike) < 0.2
