"""A clip of any length as windows of the length that the networks know.

Windows overlap by a few frames, which the later one is given. A clip of one window is the plain
case: nothing overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keyvid.bundle.specs import Dimensions
from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.keyframes import parse_keyframes, select_keyframes

OVERLAP = 4  # frames that a window shares with the one before


@dataclass(frozen=True)
class Window:
    """Frames that are made together.

    Attributes:
        index: number of the window, from 0.
        start: its first frame in the clip.
        known: how many of its first frames the window before has made.
        stop: end of its frames in the clip; those beyond it are not wanted.
        keyframes: (K,) int64 ascending, counted from `start`, 0 first.
    """

    index: int
    start: int
    known: int
    stop: int
    keyframes: np.ndarray

    @property
    def known_keyframes(self) -> np.ndarray:
        """The keyframes that the window before has made."""
        return self.keyframes[self.keyframes < self.known]


def num_window_frames(num_frames: int, size: Dimensions) -> int:
    """Frames of all windows of a clip of `num_frames` frames, the last one whole."""
    return _starts(num_frames, size)[-1] + size.frames


def check_plan(num_frames: int, size: Dimensions, keyframes: str) -> None:
    """Refuse keyframes that `plan_windows` could not plan with, before there is a motion curve.

    Raises:
        SettingsError: they are no list of keyframes, or one for a clip of one window only.
    """
    given = parse_keyframes(keyframes, size.frames, size.keyframes)
    if given is not None and keyframes != "uniform" and num_frames > size.frames:
        raise SettingsError(
            f"keyframes {keyframes!r}: are for a clip of {size.frames} frames, this one has "
            f"{num_frames}; want auto or uniform"
        )


def plan_windows(
    num_frames: int, motion: np.ndarray, size: Dimensions, keyframes: str = "auto"
) -> list[Window]:
    """The windows of a clip, their keyframes chosen by the range of the whole motion curve.

    A later window is given its first and its last shared frame; the others of its keyframes lie
    beyond them.

    Args:
        motion: (n,) motion score of each frame of all windows.
        keyframes: as `check_plan` lets them pass.
    """
    given = parse_keyframes(keyframes, size.frames, size.keyframes)
    spread = float(np.ptp(motion))
    windows = []
    for index, start in enumerate(_starts(num_frames, size)):
        known = OVERLAP if index else 0
        last_known = max(known - 1, 0)  # a keyframe, as is the first of what is chosen from
        if given is None:
            part = motion[start + last_known : start + size.frames]
            chosen = last_known + select_keyframes(part, size.keyframes - bool(index), spread)
            chosen = np.union1d([0], chosen)
        else:
            chosen = given
        stop = min(start + size.frames, num_frames)
        windows.append(Window(index, start, known, stop, chosen))
    return windows


def all_keyframes(windows: Sequence[Window]) -> np.ndarray:
    """(n,) int64 keyframes of a clip, each once."""
    new = [w.start + w.keyframes[w.keyframes >= w.known] for w in windows]
    frames = np.concatenate(new)
    return frames[frames < windows[-1].stop]


def _starts(num_frames: int, size: Dimensions) -> range:
    """First frame of each window."""
    return range(0, max(num_frames - OVERLAP, 1), size.frames - OVERLAP)
