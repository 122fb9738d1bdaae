"""How a generated clip looks beside the true one: what stands still, what moves."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Picture:
    """None where the true clip has nothing that stands still, or nothing that moves.

    still_psnr_db: what never changes in the true clip, against the first frame given.
    flicker: grey levels, standard deviation over time of what never changes, root mean square.
    motion_energy: mean absolute frame difference of what does change, relative to the true clip's.
    """

    still_psnr_db: float | None
    flicker: float | None
    motion_energy: float | None


def judge_picture(frames: np.ndarray, truth: np.ndarray) -> Picture:
    """Compare generated frames with the true ones, both (T, H, W, 3) uint8.

    The first true frame is the picture that was given.
    """
    still = (truth.min(axis=0) == truth.max(axis=0)).all(axis=-1)  # (H, W)
    psnr = flicker = energy = None
    if still.any():
        pixels = frames[:, still].astype(np.float64)  # (T, pixels, 3)
        error = np.square(pixels - truth[0, still]).mean()
        psnr = float(10 * np.log10(255**2 / max(error, 1e-9)))
        flicker = float(np.sqrt(pixels.var(axis=0).mean()))
    if not still.all():
        energy = _mean_change(frames[:, ~still]) / _mean_change(truth[:, ~still])
    return Picture(psnr, flicker, energy)


def _mean_change(pixels: np.ndarray) -> float:
    return float(np.abs(np.diff(pixels.astype(np.float32), axis=0)).mean())
