"""What pictures look like and how loud a sound is, in a few bytes that encoding anew keeps.

A receipt holds them, so that a clip that was encoded anew is told from one that shows something
else. They are no proof: whoever wants to can make another clip of the same likeness.
"""

import base64
import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Likeness = npt.NDArray[np.uint8]

_LUMA_GRID, _CHROMA_GRID = 4, 2  # cells in each direction
CELLS = _LUMA_GRID**2 + 2 * _CHROMA_GRID**2
MOST_PICTURES = 32
WINDOWS_PER_SECOND = 8
MOST_WINDOWS = 256
STEPS_PER_WINDOW = 4
# Luma, and the differences of blue and red from it, of RGB: ITU-R BT.601.
_WEIGHTS = np.array(
    [(0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813)], np.float32
)
_GREY = np.array([0.0, 128.0, 128.0], np.float32)
_SILENCE_DB = -96.0
_LEVELS_PER_DB = 2.0
_FAINT = 72  # level of -60 dB, below which a codec may leave anything


def picture_numbers(num_frames: int) -> npt.NDArray[np.int64]:
    """Which frames of a clip the receipt keeps the likeness of."""
    count = min(num_frames, MOST_PICTURES)
    return np.arange(count) * num_frames // max(count, 1)


def picture_likeness(frame: npt.NDArray[np.uint8]) -> Likeness:
    """(CELLS,) uint8 of a picture (H, W, 3), whatever its size: mean luma, then mean chroma."""
    luma, *chroma = np.moveaxis(frame.astype(np.float32) @ _WEIGHTS.T + _GREY, -1, 0)
    means = _means(luma, _LUMA_GRID)
    for plane in chroma:
        means += _means(plane, _CHROMA_GRID)
    return np.array(means).round().clip(0, 255).astype(np.uint8)


def _means(plane: npt.NDArray[np.float32], grid: int) -> list[float]:
    """Of the cells of (H, W)."""
    rows, columns = (np.linspace(0, size, grid + 1).astype(int) for size in plane.shape)
    return [
        float(plane[top : max(bottom, top + 1), left : max(right, left + 1)].mean())
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def window_seconds(seconds: float) -> float:
    """How long the windows are for the sound of a clip of so many seconds."""
    return seconds / min(max(math.ceil(seconds * WINDOWS_PER_SECOND), 1), MOST_WINDOWS)


def sound_likeness(samples: npt.NDArray[np.float32], rate: int, seconds: float) -> Likeness:
    """(n,) uint8 level of each window of a sound of so many seconds, see `sound_levels`."""
    window = window_seconds(seconds)
    return sound_levels(samples, rate, window)[::STEPS_PER_WINDOW][: round(seconds / window)]


def sound_levels(samples: npt.NDArray[np.float32], rate: int, window: float) -> Likeness:
    """(n,) uint8 levels, 2 to a decibel above -96 dB, of windows that begin 4 to a window.

    Args:
        samples: (m, channels), -1 to 1; silence follows them.
        window: seconds.
    """
    power = np.square(samples.clip(-1, 1), dtype=np.float64).mean(axis=1)
    total = np.concatenate([[0.0], np.cumsum(power)])
    count = math.ceil(len(samples) / rate / window) * STEPS_PER_WINDOW
    starts = np.arange(count) * window / STEPS_PER_WINDOW * rate
    edges = np.stack([starts, starts + window * rate]).round().astype(int).clip(max=len(samples))
    mean = (total[edges[1]] - total[edges[0]]) / max(round(window * rate), 1)
    decibels = 10 * np.log10(np.maximum(mean, 1e-12))
    levels = ((decibels - _SILENCE_DB) * _LEVELS_PER_DB).round().clip(0, 255)
    return np.asarray(levels, np.uint8)


def pack(likeness: npt.ArrayLike) -> str:
    """Base64 of the bytes."""
    return base64.b64encode(np.asarray(likeness, np.uint8).tobytes()).decode()


def unpack(text: str) -> Likeness:
    """The bytes as (n,) uint8.

    Raises:
        ValueError: it is no base64.
    """
    return np.frombuffer(base64.b64decode(text, validate=True), np.uint8)


def picture_difference(
    wanted: Likeness, num_frames: int, fps: float, found: Likeness, times: npt.NDArray[np.float64]
) -> float:
    """How far pictures are from a receipt's, where they fit best: of 255, a mean over the cells of
    the picture that is furthest from it.

    Args:
        wanted: (n, cells) of the frames `picture_numbers(num_frames)`.
        found: (m, cells) of all pictures of a clip that may be a part of the receipt's.
        times: (m,) seconds at which they are shown, ascending.
    """
    if not len(found):
        return 255.0
    at = picture_numbers(num_frames) / fps
    length = float(times[-1] - times[0]) + 1 / fps
    best = 255.0
    for offset in np.arange(num_frames) / fps:
        inside = (at >= offset - 1e-6) & (at < offset + length - 0.5 / fps)
        if inside.any():
            nearest = np.abs(times - times[0] - (at[inside] - offset)[:, None]).argmin(axis=1)
            apart = np.abs(found[nearest].astype(int) - wanted[inside]).mean(axis=1)
            best = min(best, float(apart.max()))
        if offset + length > num_frames / fps:
            break
    return best


def sound_difference(wanted: Likeness, found: Likeness) -> float:
    """How far levels are from a receipt's, where they fit best: a mean in decibels.

    Args:
        wanted: (n,) of `sound_likeness`.
        found: (m,) of `sound_levels`, with the same windows, of what may be a part of the sound.
    """
    heard = np.maximum(found, _FAINT).astype(int)
    told = np.maximum(wanted, _FAINT).astype(int)
    best = math.inf
    for shift in range(STEPS_PER_WINDOW):
        part = heard[shift::STEPS_PER_WINDOW][: len(told)]
        if len(part) > 2:
            part = part[:-1]  # the last one is not whole
        for offset in range(len(told) - len(part) + 1):
            apart = np.abs(told[offset : offset + len(part)] - part)
            best = min(best, float(apart.mean()) if len(apart) else math.inf)
    return best / _LEVELS_PER_DB
