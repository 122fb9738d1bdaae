"""Agreement of what is seen to happen in clips with events whose times are known.

Strikes that were seen and events are matched one to one. F1 counts the matches within a tolerance
over a whole set of clips and is corrected for what random timing would score.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from keyvid.score.bootstrap import Interval, interval, resample

TOLERANCES_MS = (42, 83, 125)  # one, two and three frames at 24 fps
_CHANCE_SHIFTS = 20


@dataclass(frozen=True)
class TimedClip:
    """Times in seconds of what was seen and what was heard in one clip of `duration` seconds."""

    strikes: np.ndarray
    events: np.ndarray
    duration: float

    def shifted(self, seconds: float) -> "TimedClip":
        """The clip with its sound turned around by `seconds`."""
        return TimedClip(
            self.strikes, np.sort((self.events + seconds) % self.duration), self.duration
        )


@dataclass(frozen=True)
class Agreement:
    """Scores of a set of clips at one tolerance, 0 to 1.

    chance: F1 with the sounds turned around by random amounts. corrected: F1 on a scale where
    chance is 0 and perfection 1. Intervals: 95 %, by bootstrap over clips.
    """

    f1: float
    f1_interval: Interval
    recall: float
    precision: float
    chance: float
    corrected: float
    corrected_interval: Interval


def agree(clips: Sequence[TimedClip], tolerance_ms: float) -> Agreement:
    """Scores of `clips`, of which there is at least one; the same each time (seeded)."""
    rng = np.random.default_rng(0)
    counts = _counts(clips, tolerance_ms)
    chance_counts = np.zeros(counts.shape)
    for _ in range(_CHANCE_SHIFTS):
        turned = [clip.shifted(rng.uniform(0, clip.duration)) for clip in clips]
        chance_counts += _counts(turned, tolerance_ms)
    resampled = resample(len(clips))
    f1, chance = _f1(counts.sum(axis=0)), _f1(chance_counts.sum(axis=0))
    f1s, chances = (_f1(c[resampled].sum(axis=1)) for c in (counts, chance_counts))
    matches, strikes, events = counts.sum(axis=0)
    return Agreement(
        f1=float(f1),
        f1_interval=interval(f1s),
        recall=float(matches / events) if events else 1.0,
        precision=float(matches / strikes) if strikes else 1.0,
        chance=float(chance),
        corrected=float(_correct(f1, chance)),
        corrected_interval=interval(_correct(f1s, chances)),
    )


def f1_difference(
    first: Sequence[TimedClip], second: Sequence[TimedClip], tolerance_ms: float
) -> tuple[float, Interval]:
    """F1 of `second` minus F1 of `first`, the same clips in the same order, and its interval.

    Both are resampled together, so that clips that are hard for both do not widen the interval.
    """
    resampled = resample(len(first))
    counts = [_counts(clips, tolerance_ms) for clips in (first, second)]
    before, after = (_f1(c[resampled].sum(axis=1)) for c in counts)
    whole = [_f1(c.sum(axis=0)) for c in counts]
    return float(whole[1] - whole[0]), interval(after - before)


def match_errors(clip: TimedClip, tolerance_ms: float) -> np.ndarray:
    """Strike minus event in seconds for each pair that is matched within the tolerance."""
    if not len(clip.strikes) or not len(clip.events):
        return np.zeros(0)
    errors = clip.strikes[:, None] - clip.events[None, :]
    # Times that are given in frames or thousandths must not fall out by their rounding.
    within = np.abs(errors) <= (tolerance_ms + 0.5) / 1000
    # Pairs out of reach cost the same, more than any sum of pairs within it.
    cost = np.where(within, np.abs(errors), 1e3)
    rows, columns = linear_sum_assignment(cost)
    matched: np.ndarray = errors[rows, columns][within[rows, columns]]
    return matched


def median_error_ms(clips: Sequence[TimedClip]) -> float | None:
    """Signed median of strike minus event over all pairs within the widest tolerance, in ms."""
    errors = [match_errors(clip, TOLERANCES_MS[-1]) for clip in clips]
    merged = np.concatenate([np.zeros(0), *errors])
    return float(np.median(merged) * 1000) if len(merged) else None


def _counts(clips: Sequence[TimedClip], tolerance_ms: float) -> np.ndarray:
    """(clips, 3) float numbers of matches, strikes and events."""
    return np.array(
        [
            [len(match_errors(clip, tolerance_ms)), len(clip.strikes), len(clip.events)]
            for clip in clips
        ],
        np.float64,
    )


def _f1(counts: np.ndarray) -> np.ndarray:
    """(..., 3) matches, strikes and events to (...) F1; 1 where there is nothing to match."""
    total = counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.maximum(total, 1e-9), 1.0)


def _correct(f1: np.ndarray, chance: np.ndarray) -> np.ndarray:
    corrected: np.ndarray = (f1 - chance) / np.maximum(1 - chance, 1e-9)
    return corrected
