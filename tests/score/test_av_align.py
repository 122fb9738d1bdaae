"""AV-Align against values worked out by hand."""

import numpy as np
import pytest

from keyvid.score.av_align import Alignment, align, find_onsets, mean_alignment, overlap
from tests.score.squares import EVENTS, contact_place, draw_square

RATE = 16_000


def clicks(times: np.ndarray, seconds: float = 2.0) -> np.ndarray:
    """Short bursts of noise at `times`, nothing else."""
    rng = np.random.default_rng(0)
    mono = np.zeros(round(seconds * RATE), np.float32)
    for time in times:
        start = round(time * RATE)
        mono[start : start + 800] += rng.standard_normal(800) * np.exp(-np.arange(800) / 160)
    return 0.3 * mono


@pytest.mark.parametrize(
    ("onsets", "peaks", "value"),
    [
        # 0.50 with 0.52 and 1.00 with 0.97; 1.50 and 1.70 alone: 2 of 4.
        ([0.50, 1.00, 1.50], [0.52, 0.97, 1.70], 2 / 4),
        # One peak serves one onset: 1 of 2.
        ([0.50, 0.53], [0.51], 1 / 2),
        # A whole frame away is not within one: 0 of 2.
        ([0.50], [0.54], 0),
        # The first onset takes the first peak, so that the second keeps its own: 2 of 2.
        ([0.50, 0.52], [0.48, 0.53], 1),
        ([], [0.1, 0.2], 0),
        ([0.1], [0.1], 1),
    ],
)
def test_overlap_by_hand(onsets: list[float], peaks: list[float], value: float) -> None:
    assert overlap(np.array(onsets), np.array(peaks), 0.04) == pytest.approx(value)


def test_onsets_are_where_clicks_are() -> None:
    """Within a step of the spectrogram and half a window."""
    found = find_onsets(clicks(EVENTS))
    assert len(found) == len(EVENTS)
    np.testing.assert_allclose(found, EVENTS, atol=0.02)


@pytest.mark.parametrize("mono", [np.zeros(2 * RATE, np.float32), np.zeros(10, np.float32)])
def test_silence_has_no_onsets(mono: np.ndarray) -> None:
    assert len(find_onsets(mono)) == 0


def test_a_clip_in_time_is_better_than_one_that_is_late() -> None:
    """A contact has two peaks of speed, before and after the frame in which it stands still.

    So three events make six peaks of which each onset can have one: 3 of 6 at best.
    """
    times = np.arange(48) / 24
    frames = draw_square(contact_place(times))
    right = align("right", frames, times, clicks(EVENTS - 1 / 24))
    late = align("late", frames, times, clicks(EVENTS + 0.25))
    assert right.onsets == late.onsets == 3
    assert right.peaks == late.peaks
    assert right.value == pytest.approx(3 / right.peaks)
    assert late.value == 0


def test_still_and_silent_clips_have_no_value() -> None:
    times = np.arange(48) / 24
    frames = draw_square(np.zeros(48))
    still = align("still", frames, times, np.zeros(2 * RATE, np.float32))
    assert still == Alignment("still", 0, 0, None)
    assert mean_alignment([still]) is None
    mean, (low, high) = mean_alignment([still, Alignment("a", 1, 1, 1.0)]) or (0, (0, 0))
    assert (mean, low, high) == (1, 1, 1)
