"""Peaks and valleys of a motion curve, and the keyframes chosen from them."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.signal import find_peaks

_MIN_DISTANCE = 5  # frames between two peaks
_MIN_PROMINENCE = 0.1
_FLAT = 1e-6  # a range below this share of the largest value is rounding


def find_keypoints(curve: npt.NDArray[np.floating]) -> npt.NDArray[np.int8]:
    """Motion peaks (1), valleys (-1) and other frames (0) of a curve (F,), as in the release."""
    keypoints = np.zeros(len(curve), np.int8)
    keypoints[_find_peaks(curve)[0]] = 1
    keypoints[_find_peaks(-curve)[0]] = -1
    return keypoints


def select_keyframes(motion: npt.NDArray[np.floating], num_keyframes: int) -> npt.NDArray[np.int64]:
    """Indices of the frames to generate first (paper, section 3.1), made deterministic.

    The first and the last frame; the K//2 - 1 most prominent motion peaks (ties: the earlier), all
    if there are fewer; between each two neighbours of them the lowest frame (ties: the first).
    These anchors bound gaps of length L. The remaining places go one by one to the gap with the
    largest L / (m + 1), where m counts the places it has already (ties: the earliest gap), and
    divide it evenly: a + (j L) // (m + 1), j = 1..m, for a gap that begins at a.

    Peaks are those of the curve scaled to [0, 1], in float64. A flat curve has none.

    Args:
        motion: (F,) motion score per frame, any scale.
        num_keyframes: K, 2 <= K <= F.
    Returns:
        (K,) int64, ascending, distinct, 0 first.
    """
    curve = _scale_to_unit(motion.astype(np.float64))
    anchors = [0, *_motion_extremes(curve, num_keyframes // 2 - 1), len(curve) - 1]
    lengths = np.diff(anchors)
    shares = np.ones(len(lengths), np.int64)  # m + 1
    for _ in range(num_keyframes - len(anchors)):
        shares[np.argmax(lengths / shares)] += 1
    inner = [
        start + np.arange(share) * length // share
        for start, length, share in zip(anchors[:-1], lengths, shares, strict=True)
    ]
    return np.concatenate([*inner, anchors[-1:]])


def uniform_keyframes(num_frames: int, num_keyframes: int) -> npt.NDArray[np.int64]:
    """Evenly spaced keyframes (K,), 0 first (the paper's KeyVID-Uniform)."""
    return np.arange(num_keyframes, dtype=np.int64) * num_frames // num_keyframes


def _motion_extremes(curve: npt.NDArray[np.float64], max_peaks: int) -> list[int]:
    """The most prominent peaks and the lowest frame between each two neighbours, ascending."""
    peaks, prominences = _find_peaks(curve)
    by_prominence = np.argsort(-prominences, kind="stable")
    chosen = np.sort(peaks[by_prominence[:max_peaks]]).tolist()
    valleys = [
        left + 1 + int(np.argmin(curve[left + 1 : right])) for left, right in pairwise(chosen)
    ]
    return sorted([*chosen, *valleys])


def _scale_to_unit(motion: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = motion.min(), motion.max()
    if high - low <= _FLAT * max(abs(low), abs(high)):
        return np.zeros_like(motion)
    scaled: npt.NDArray[np.float64] = (motion - low) / (high - low)
    return scaled


def _find_peaks(
    curve: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Indices and prominences of the peaks of `curve`."""
    indices, properties = find_peaks(curve, distance=_MIN_DISTANCE, prominence=_MIN_PROMINENCE)
    return indices, properties["prominences"]
