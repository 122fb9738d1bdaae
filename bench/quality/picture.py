"""How a generated clip looks beside the true one: what stands still, what moves, how it ends."""

from dataclasses import dataclass

import numpy as np

from keyvid.score.motion import LEAST_POSE, pose_shift

_LEAST_ERROR = 1e-9  # squared grey levels; equal pixels so have 138 dB
_LAST_SHARE = 0.2  # of the clip
_NEAR_EVENT_S = 0.1
_END_FRAMES = 4


@dataclass(frozen=True)
class PictureScores:
    """None where the true clip has nothing of the kind.

    still_psnr_db: what never changes in the true clip, against the first frame given.
    flicker: grey levels, standard deviation over time of what never changes, root mean square.
    rest_psnr_db: frames of the last fifth in which the true clip rests, against the true ones.
    moving_psnr_db: what changes in the true clip, in frames within 0.1 s of an event, against the
        true ones.
    motion_energy: mean absolute frame difference of what does change, relative to the true clip's.
    end_shift: where the true clip rests in its last four frames, how far the pose moves in them
        from the frame before, as the tracked pose sees it.
    """

    still_psnr_db: float | None
    flicker: float | None
    rest_psnr_db: float | None
    moving_psnr_db: float | None
    motion_energy: float | None
    end_shift: float | None

    @property
    def moves_at_end(self) -> bool | None:
        """Whether something moves in the last four frames although nothing should."""
        return None if self.end_shift is None else self.end_shift >= LEAST_POSE["change"]


def judge_picture(
    frames: np.ndarray, truth: np.ndarray, times: np.ndarray, events: np.ndarray
) -> PictureScores:
    """Compare generated frames with the true ones, both (T, H, W, 3) uint8.

    Args:
        truth: its first frame is the picture that was given.
        times: (T,) seconds of the frames.
        events: (n,) seconds.
    """
    still = (truth.min(axis=0) == truth.max(axis=0)).all(axis=-1)  # (H, W)
    resting = np.append(True, (truth[1:] == truth[:-1]).all(axis=(1, 2, 3)))  # (T,)
    number = np.arange(len(truth))
    last = resting & (number >= (1 - _LAST_SHARE) * len(truth))
    near = (np.abs(times[:, None] - events) <= _NEAR_EVENT_S + 1e-9).any(axis=1)
    before_end = len(truth) - _END_FRAMES - 1
    moving = ~still
    return PictureScores(
        still_psnr_db=psnr(frames[:, still], truth[:1, still]) if still.any() else None,
        flicker=_flicker(frames[:, still]) if still.any() else None,
        rest_psnr_db=psnr(frames[last], truth[last]) if last.any() else None,
        moving_psnr_db=psnr(frames[near][:, moving], truth[near][:, moving])
        if near.any() and moving.any()
        else None,
        motion_energy=_mean_change(frames[:, moving]) / _mean_change(truth[:, moving])
        if moving.any()
        else None,
        end_shift=float(pose_shift(frames[before_end:], 0).max())
        if resting[before_end + 1 :].all()
        else None,
    )


def psnr(got: np.ndarray, want: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pixels; 138 dB where all are the same."""
    error = np.square(got.astype(np.float32) - want).mean(dtype=np.float64)
    return float(10 * np.log10(255**2 / max(error, _LEAST_ERROR)))


def _flicker(pixels: np.ndarray) -> float:
    return float(np.sqrt(pixels.var(axis=0, dtype=np.float64).mean()))


def _mean_change(pixels: np.ndarray) -> float:
    return float(np.abs(np.diff(pixels.astype(np.float32), axis=0)).mean())
