"""Intervals by drawing clips again and again, the same ones each time."""

import numpy as np

_SAMPLES = 1000

Interval = tuple[float, float]


def resample(num_clips: int) -> np.ndarray:
    """(samples, clips) indices with replacement, the same each time."""
    return np.random.default_rng(0).integers(num_clips, size=(_SAMPLES, num_clips))


def interval(values: np.ndarray) -> Interval:
    """What 95 % of the values of the samples lie in."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
