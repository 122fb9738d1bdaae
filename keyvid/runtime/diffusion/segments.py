"""A clip of any length as segments of the length that the networks know.

Segments overlap by a few frames, which the later one is given. A clip of one segment is the plain
case: nothing overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from keyvid.bundle.specs import Dimensions
from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.keyframes import parse_keyframes, select_keyframes

OVERLAP = 4  # frames that a segment shares with the one before


@dataclass(frozen=True)
class Segment:
    """Frames that are made together.

    Attributes:
        index: number of the segment, from 0.
        start: its first frame in the clip.
        known: how many of its first frames the segment before has made.
        stop: end of its frames in the clip; those beyond it are not wanted.
        stride: frames from its first one to that of the next segment.
        end: the frame that is given as the last of the clip, counted from `start`; None for none.
        keyframes: (K,) int64 ascending, counted from `start`, 0 first.
    """

    index: int
    start: int
    known: int
    stop: int
    keyframes: np.ndarray
    stride: int
    end: int | None = None

    @property
    def known_keyframes(self) -> np.ndarray:
        """The keyframes that the segment before has made."""
        return self.keyframes[self.keyframes < self.known]

    @property
    def new(self) -> slice:
        """The frames that it adds to the clip, counted from `start`."""
        return slice(self.known, self.stop - self.start)

    @property
    def shared(self) -> slice:
        """The frames that it shares with the next segment, counted from `start`."""
        return slice(self.stride, self.stride + OVERLAP)


def num_segment_frames(num_frames: int, size: Dimensions, *, ends: bool = False) -> int:
    """Frames of all segments of a clip of `num_frames` frames, the last one whole.

    Args:
        ends: see `plan_segments`.
    """
    return _starts(num_frames, size, ends)[-1] + size.frames


def read_keyframes(text: str, num_frames: int, size: Dimensions) -> np.ndarray | None:
    """The keyframes of each segment that a caller asks for; None to choose them by the motion.

    Args:
        text: "auto", "uniform" or frame numbers.
        num_frames: of the clip.
    Returns:
        (K,) int64 ascending, 0 first.
    Raises:
        SettingsError: `text` is no list of keyframes, or one for a clip of one segment only.
    """
    given = parse_keyframes(text, size.frames, size.keyframes)
    if given is not None and text != "uniform" and num_frames > size.frames:
        raise SettingsError(
            f"keyframes {text!r}: are for a clip of {size.frames} frames, this one has "
            f"{num_frames}; want auto or uniform"
        )
    return given


def plan_segments(
    num_frames: int,
    motion: np.ndarray,
    size: Dimensions,
    keyframes: np.ndarray | None = None,
    *,
    ends: bool = False,
) -> list[Segment]:
    """The segments of a clip, their keyframes chosen by the range of the whole motion curve.

    A later segment is given its first and its last shared frame; the others of its keyframes lie
    beyond them.

    Args:
        motion: (n,) motion score of each frame of all segments.
        keyframes: (K,) those of each segment, see `read_keyframes`.
        ends: whether the last frame is given. It is a keyframe then, in place of the nearest; and
            segments are of one length, so that the last one has the time to come to it.
    """
    spread = float(np.ptp(motion))
    segments = []
    starts = _starts(num_frames, size, ends)
    for index, start in enumerate(starts):
        known = OVERLAP if index else 0
        last_known = max(known - 1, 0)  # a keyframe, as is the first of what is chosen from
        if keyframes is None:
            part = motion[start + last_known : start + size.frames]
            chosen = last_known + select_keyframes(part, size.keyframes - bool(index), spread)
            chosen = np.union1d([0], chosen)
        else:
            chosen = keyframes
        stop, end = min(start + starts.step + OVERLAP, num_frames), None
        if ends and stop == num_frames:
            end = stop - 1 - start
            chosen = _with_frame(chosen, end, known)
        segments.append(Segment(index, start, known, stop, chosen, starts.step, end))
    return segments


def _with_frame(keyframes: np.ndarray, frame: int, known: int) -> np.ndarray:
    """`keyframes` with `frame` in place of the nearest that is not the first, nor known."""
    free = keyframes >= max(known, 1)
    nearest = keyframes[free][np.abs(keyframes[free] - frame).argmin()]
    return np.sort(np.where(keyframes == nearest, frame, keyframes))


def all_keyframes(segments: Sequence[Segment]) -> np.ndarray:
    """(n,) int64 keyframes of a clip, each once."""
    new = [part.start + part.keyframes[part.keyframes >= part.known] for part in segments]
    return np.concatenate(
        [frames[frames < part.stop] for frames, part in zip(new, segments, strict=True)]
    )


def _starts(num_frames: int, size: Dimensions, even: bool) -> range:
    """First frame of each segment; `even` ones have as many new frames each."""
    stride, new = size.frames - OVERLAP, max(num_frames - OVERLAP, 1)
    if even and new > stride:
        stride = ceil(new / ceil(new / stride))
    return range(0, new, stride)
