"""The denoise loop: it follows a schedule and does not know which solver made it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from keyvid.runtime.diffusion.noise import standard_noise
from keyvid.runtime.diffusion.schedule import Step

Velocity = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Known:
    """Frames that the result is to have as they are.

    Attributes:
        frames: (n,) int64, which they are.
        latents: (1, C, n, h, w).
    """

    frames: np.ndarray
    latents: np.ndarray


def denoise(
    velocity: Velocity,
    latent: np.ndarray,
    schedule: Iterable[Step],
    rng: np.random.Generator,
    known: Known | None = None,
) -> np.ndarray:
    """Follow `schedule` from noise to the final latent.

    Args:
        velocity: gives the guided velocity for a latent and a timestep, in the latent's shape.
        latent: standard normal float32 noise to start from, (1, C, F, h, w).
        schedule: rows of `keyvid.runtime.diffusion.schedule`.
        rng: draws the fresh noise of the rows that use it.
        known: frames that are put in place before each step, as noisy as the others, so that the
            network continues them.
    Returns:
        float32, shaped as `latent`.
    """
    previous = np.zeros_like(latent)
    noise = latent
    for step in schedule:
        if known:
            signal = step.signal * step.rescale * known.latents
            latent = latent.copy()
            latent[:, :, known.frames] = signal + step.sigma * noise[:, :, known.frames]
        clean = step.signal * latent - step.sigma * velocity(latent, step.timestep)
        latent = step.from_latent * latent + step.from_clean * clean + step.from_previous * previous
        if step.from_noise:
            latent += step.from_noise * standard_noise(latent.shape, rng)
        previous = clean
    if known:
        latent[:, :, known.frames] = known.latents
    return latent
