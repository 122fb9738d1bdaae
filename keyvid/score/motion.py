"""What moves in a clip and when, from its frames alone.

Two measures that know nothing of how the clip was made. *Frame difference* sees change of any kind.
*Tracked pose* blurs the frames so widely that what is left tells where things are and not how they
look, and follows how far they are from where they were at first, or how fast they go.
"""

from itertools import pairwise

import numpy as np
from scipy.signal import find_peaks

MEASURES = ("frame difference", "tracked pose")

_REFERENCE_FPS = 24  # rates of change are in grey levels per frame at this rate
_PROMINENCE = 0.2  # of the curve's range
_BLURS = (1 / 16, 1 / 8)  # standard deviations, of the height

# Peaks that stand out by less, in grey levels, are no strikes either. Absolute, because a share of
# the range would make strikes of the noise where nothing moves. What a viewer sees must change:
# about 1 % of the picture by 35 grey levels (of 255) from one frame to the next; compression and
# the flicker of a decoder stay below.
_LEAST = 0.35
# What such an object adds to the blurs when it is carried far away: 0.35 sqrt(W / H) / (sqrt(2 pi)
# s), summed over the blurs s, for 3:2. A third of it from one frame to the next.
LEAST_POSE = {"contact": 4.0, "change": 1.3}


def find_strikes(frames: np.ndarray, times: np.ndarray, event: str) -> dict[str, np.ndarray]:
    """Seconds at which something is seen to happen, ascending, by each of `MEASURES`.

    Args:
        frames: (T, H, W, 3) uint8, at least three.
        times: (T,) seconds, ascending.
        event: what the tracked pose takes for an event. "contact": something reaches its furthest
            point and comes back; "change": something goes over to another state.
    """
    curve = motion_curve(frames, times)
    places = {
        "frame difference": find_extremes(curve, _LEAST),
        "tracked pose": track_contacts(frames)
        if event == "contact"
        else track_changes(frames, times),
    }
    numbers = np.arange(len(times))
    return {measure: np.interp(place, numbers, times) for measure, place in places.items()}


def motion_curve(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(T,) mean absolute difference of neighbouring frames, grey levels per 1/24 s.

    Averaged over the interval before and the one after each frame; over more of them where there
    are more frames a second, so that the same movement gives about the same curve.
    """
    steps = [np.abs(after.astype(np.float32) - before).mean() for before, after in pairwise(frames)]
    rates = np.array(steps) / (np.diff(times) * _REFERENCE_FPS)
    reach = _reach(times)
    return np.array([rates[max(t - reach, 0) : t + reach].mean() for t in range(len(frames))])


def track_contacts(frames: np.ndarray) -> np.ndarray:
    """Frame numbers (n,) float, where the pose is furthest from that of the first frame."""
    away = pose_shift(frames, 0)
    return _between_frames(away, find_extremes(away, LEAST_POSE["contact"]))


def track_changes(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Frame numbers (n,) float, where the pose changes fastest."""
    numbers, reach = np.arange(len(times)), _reach(times)
    before, after = np.maximum(numbers - reach, 0), np.minimum(numbers + reach, len(times) - 1)
    fine, coarse = (_size(layout[after] - layout[before]) for layout in _layouts(frames))
    speed = (fine + coarse) / ((times[after] - times[before]) * _REFERENCE_FPS)
    return _between_frames(speed, find_extremes(speed, LEAST_POSE["change"]))


def pose_shift(frames: np.ndarray, origin: int) -> np.ndarray:
    """(T,) how far things are from where they are in frame `origin`; see `LEAST_POSE`."""
    fine, coarse = (_size(layout - layout[origin]) for layout in _layouts(frames))
    shift: np.ndarray = fine + coarse
    return shift


def find_extremes(curve: np.ndarray, least: float) -> np.ndarray:
    """(n,) frame numbers of the peaks that stand out by `least` and a share of the range."""
    prominence = max(_PROMINENCE * float(np.ptp(curve)), least)
    peaks: np.ndarray = find_peaks(curve, prominence=prominence)[0]
    return peaks


def _layouts(frames: np.ndarray) -> list[np.ndarray]:
    """Frames under each blur, (T, H', W', 3) float32, without the brightness of the whole."""
    layouts = [_blur(frames, share * frames.shape[1]) for share in _BLURS]
    return [layout - layout.mean(axis=(1, 2), keepdims=True) for layout in layouts]


def _blur(frames: np.ndarray, sigma: float) -> np.ndarray:
    """(T, H, W, 3) to (T, H', W', 3) float32: Gaussian means `sigma` / 2 pixels apart."""
    rows, columns = (_gaussian(size, sigma) for size in frames.shape[1:3])
    return np.stack(
        [
            np.einsum("hy,yxc,wx->hwc", rows, frame.astype(np.float32), columns, optimize=True)
            for frame in frames
        ]
    )


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """(size', size) float32 weights of the pixels of a line in each mean.

    Their sum is 1 but for the ends: made up for there, what is near them would seem to go faster.
    """
    places = np.linspace(0, size - 1, max(2, round(2 * size / sigma)))
    weights: np.ndarray = np.exp(-0.5 * ((np.arange(size) - places[:, None]) / sigma) ** 2)
    weights = weights / (sigma * np.sqrt(2 * np.pi))
    return weights.astype(np.float32)


def _size(layout: np.ndarray) -> np.ndarray:
    """(T,) root mean square."""
    size: np.ndarray = np.sqrt(np.square(layout).mean(axis=(1, 2, 3)))
    return size


def _between_frames(curve: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """(n,) float summits of the parabolas through each peak and its neighbours."""
    left, top, right = curve[peaks - 1], curve[peaks], curve[peaks + 1]
    bend = 2 * top - left - right  # 0 on a flat top
    return peaks + np.where(bend > 0, (right - left) / np.where(bend > 0, 2 * bend, 1), 0)


def _reach(times: np.ndarray) -> int:
    """Frames on either side of one that lie within 1/24 s, at least one."""
    return max(1, round(1 / (_REFERENCE_FPS * float(np.median(np.diff(times))))))
