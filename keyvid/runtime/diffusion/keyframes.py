"""Keyframes: which frames of the clip are generated first."""

from itertools import pairwise

import numpy as np

from keyvid.errors import SettingsError

PEAK_DISTANCE = 5  # frames between neighbouring peaks
PEAK_PROMINENCE = 0.1  # of the curve's range
FLAT = 1e-6  # a range below this part of the largest value is rounding, not motion


def select_keyframes(
    motion: np.ndarray, num_keyframes: int, spread: float | None = None
) -> np.ndarray:
    """Indices of the frames to generate first (paper, section 3.1, made deterministic).

    The first and the last frame, the most prominent peaks of the motion, the valley between each
    two of them, and the rest spread so that the longest bare stretch is as short as possible.

    Args:
        motion: (F,) motion score per frame, any scale.
        num_keyframes: K, 2 <= K <= F.
        spread: range of the curve that `motion` is a part of; peaks are measured by it.
    Returns:
        (K,) int64, ascending, distinct, 0 first.
    """
    curve = motion.astype(np.float64)
    low, high = curve.min(), curve.max()
    last = len(motion) - 1
    anchors = [0, last]
    if high - low > FLAT * max(abs(low), abs(high)):
        curve = (curve - low) / max(high - low, spread or 0.0)
        peaks = _largest_peaks(curve, num_keyframes // 2 - 1)
        valleys = [p + 1 + int(curve[p + 1 : q].argmin()) for p, q in pairwise(peaks)]
        anchors = sorted([0, *peaks, *valleys, last])
    return _fill_gaps(anchors, num_keyframes)


def uniform_keyframes(num_frames: int, num_keyframes: int) -> np.ndarray:
    """(K,) int64 evenly spaced indices, 0 first (the paper's KeyVID-Uniform)."""
    return np.arange(num_keyframes) * num_frames // num_keyframes


def parse_keyframes(text: str, num_frames: int, num_keyframes: int) -> np.ndarray | None:
    """Indices that a user asked for: (K,) int64, or None for "auto".

    Raises:
        SettingsError: `text` is neither "auto" nor "uniform" nor K ascending indices from 0.
    """
    if text == "auto":
        return None
    if text == "uniform":
        return uniform_keyframes(num_frames, num_keyframes)
    wanted = f"want auto, uniform or {num_keyframes} ascending frame numbers such as 0,4,8"
    try:
        indices = [int(part) for part in text.split(",")]
    except ValueError:
        raise SettingsError(
            f"keyframes {text!r}: not a list of numbers; {wanted}, or a .npy, .csv or .json file "
            "of them"
        ) from None
    if len(indices) != num_keyframes:
        raise SettingsError(f"keyframes {text!r}: {len(indices)} given; {wanted}")
    if indices[0] != 0:
        raise SettingsError(f"keyframes {text!r}: the first must be 0, the given image; {wanted}")
    if any(later <= earlier for earlier, later in pairwise(indices)):
        raise SettingsError(f"keyframes {text!r}: not in ascending order; {wanted}")
    if indices[-1] >= num_frames:
        raise SettingsError(
            f"keyframes {text!r}: {indices[-1]} is past the last frame, {num_frames - 1}; {wanted}"
        )
    return np.array(indices, np.int64)


def find_peaks(curve: np.ndarray, distance: int, prominence: float) -> np.ndarray:
    """Peaks as `scipy.signal.find_peaks` defines them.

    Args:
        curve: (F,) float.
        distance: smallest gap between two peaks, in samples; the higher one stays.
        prominence: smallest height above the higher of the two surrounding minima.
    Returns:
        (n,) int64 ascending indices; the middle of a flat top, rounded down.
    """
    peaks = _thin_out(curve, _local_maxima(curve), distance)
    prominent = [p for p in peaks if _prominence(curve, p) >= prominence]
    return np.array(prominent, np.int64)


def _largest_peaks(curve: np.ndarray, count: int) -> list[int]:
    peaks = find_peaks(curve, PEAK_DISTANCE, PEAK_PROMINENCE).tolist()
    by_prominence = sorted(peaks, key=lambda peak: -_prominence(curve, peak))
    return sorted(by_prominence[:count])


def _fill_gaps(anchors: list[int], num_keyframes: int) -> np.ndarray:
    """`anchors` and what is missing to `num_keyframes`, always into the widest remaining gap."""
    lengths = np.diff(anchors)
    places = np.zeros(len(lengths), np.int64)
    for _ in range(num_keyframes - len(anchors)):
        places[np.argmax(lengths / (places + 1))] += 1
    parts = [
        anchor + np.arange(count + 1) * length // (count + 1)
        for anchor, length, count in zip(anchors[:-1], lengths, places, strict=True)
    ]
    return np.concatenate([*parts, anchors[-1:]])


def _local_maxima(curve: np.ndarray) -> list[int]:
    """Samples, or middles of plateaus, with lower samples on both sides; never at an end."""
    peaks = []
    start = 1  # of a run of equal samples
    while start < len(curve) - 1:
        end = start
        while end < len(curve) - 1 and curve[end + 1] == curve[start]:
            end += 1
        is_inside = end < len(curve) - 1
        if is_inside and curve[start - 1] < curve[start] > curve[end + 1]:
            peaks.append((start + end) // 2)
        start = end + 1
    return peaks


def _thin_out(curve: np.ndarray, peaks: list[int], distance: int) -> list[int]:
    """The peaks that are left when each, from the highest down, removes its close neighbours."""
    kept: list[int] = []
    for peak in sorted(peaks, key=lambda peak: (curve[peak], peak), reverse=True):
        if all(abs(peak - other) >= distance for other in kept):
            kept.append(peak)
    return sorted(kept)


def _prominence(curve: np.ndarray, peak: int) -> float:
    """Height above the higher of the two minima before the curve rises above the peak."""

    def minimum(side: np.ndarray) -> float:
        higher = np.flatnonzero(side > curve[peak])
        return float(side[: higher[0]].min() if len(higher) else side.min())

    return float(curve[peak] - max(minimum(curve[peak::-1]), minimum(curve[peak:])))
