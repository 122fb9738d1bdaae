"""Synchronisation of a clip with events whose times are known.

A strike is seen as a peak of the motion curve, the mean absolute difference between frames. Peaks
and events are matched one to one; F1 counts matches within a tolerance over a whole set of clips
and is corrected for what random timing would score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.signal import find_peaks

TOLERANCES_MS = (42, 83, 125)  # one, two and three frames at 24 fps
_PROMINENCE = 0.2  # of the curve's range
_STILL = 0.35  # grey levels of range of the curve below which nothing moves
_CHANCE_SHIFTS = 20
_BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class TimedClip:
    """Times in seconds of what was seen and what was heard in one clip of `duration` seconds."""

    peaks: np.ndarray
    events: np.ndarray
    duration: float

    def shifted(self, seconds: float) -> "TimedClip":
        """The clip with its sound turned around by `seconds`."""
        return TimedClip(
            self.peaks, np.sort((self.events + seconds) % self.duration), self.duration
        )


def motion_curve(frames: np.ndarray) -> np.ndarray:
    """(T, H, W, 3) uint8 to (T,) mean absolute difference to the neighbours, in grey levels."""
    steps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    return (np.append(steps, steps[-1]) + np.insert(steps, 0, steps[0])) / 2


def motion_peaks(curve: np.ndarray, fps: float) -> np.ndarray:
    """Times in seconds of the peaks of a motion curve; none if it is all but flat."""
    span = float(np.ptp(curve))
    if span < _STILL:
        return np.zeros(0)
    peaks, _ = find_peaks(curve, prominence=_PROMINENCE * span)
    return peaks / fps


def match_errors(clip: TimedClip, tolerance_s: float) -> np.ndarray:
    """Peak minus event in seconds for each pair that is matched within the tolerance."""
    if not len(clip.peaks) or not len(clip.events):
        return np.zeros(0)
    errors = clip.peaks[:, None] - clip.events[None, :]
    # Pairs out of reach cost the same, more than any sum of pairs within it.
    within = np.abs(errors) <= tolerance_s
    cost = np.where(within, np.abs(errors), 1e3)
    rows, columns = linear_sum_assignment(cost)
    return errors[rows, columns][within[rows, columns]]


def f1(clips: Sequence[TimedClip], tolerance_s: float) -> float:
    """F1 of matched peaks and events over all clips together."""
    return _f1(_counts(clips, tolerance_s))


def chance_f1(clips: Sequence[TimedClip], tolerance_s: float) -> float:
    """F1 of the same clips with their sounds turned around by random amounts (seeded)."""
    rng = np.random.default_rng(0)
    counts = [
        _counts([clip.shifted(rng.uniform(0, clip.duration)) for clip in clips], tolerance_s)
        for _ in range(_CHANCE_SHIFTS)
    ]
    return _f1(np.sum(counts, axis=0))


def corrected(score: float, chance: float) -> float:
    """`score` on a scale where chance is 0 and perfection 1."""
    return (score - chance) / (1 - chance)


def f1_interval(clips: Sequence[TimedClip], tolerance_s: float) -> tuple[float, float]:
    """95 % bootstrap interval of `f1`, resampling clips (seeded)."""
    rng = np.random.default_rng(0)
    counts = _counts(clips, tolerance_s)
    chosen = rng.integers(len(clips), size=(_BOOTSTRAP_SAMPLES, len(clips)))
    scores = [_f1(counts[rows]) for rows in chosen]
    low, high = np.percentile(scores, [2.5, 97.5])
    return float(low), float(high)


def median_error_ms(clips: Sequence[TimedClip], tolerance_s: float) -> float:
    """Signed median of peak minus event over all matched pairs, in milliseconds; NaN if none."""
    errors = np.concatenate([match_errors(clip, tolerance_s) for clip in clips])
    return float(np.median(errors) * 1000) if len(errors) else float("nan")


def _counts(clips: Sequence[TimedClip], tolerance_s: float) -> np.ndarray:
    """(clips, 3) numbers of matches, peaks and events."""
    return np.array(
        [[len(match_errors(c, tolerance_s)), len(c.peaks), len(c.events)] for c in clips]
    )


def _f1(counts: np.ndarray) -> float:
    matches, peaks, events = counts.reshape(-1, 3).sum(axis=0)
    return float(2 * matches / (peaks + events)) if peaks + events else 1.0
