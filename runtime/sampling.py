"""The denoise loop: it follows a schedule and does not know which solver made it."""

from collections.abc import Callable, Iterable

import numpy as np

from keyvid.runtime.noise import standard_noise
from keyvid.runtime.schedule import Step

Velocity = Callable[[np.ndarray, int], np.ndarray]


def denoise(
    velocity: Velocity, latent: np.ndarray, schedule: Iterable[Step], rng: np.random.Generator
) -> np.ndarray:
    """Follow `schedule` from noise to the final latent.

    Args:
        velocity: gives the guided velocity for a latent and a timestep, in the latent's shape.
        latent: standard normal float32 noise to start from.
        schedule: rows of `keyvid.runtime.schedule`.
        rng: draws the fresh noise of the rows that use it.
    Returns:
        float32, shaped as `latent`.
    """
    previous = np.zeros_like(latent)
    for step in schedule:
        clean = step.signal * latent - step.sigma * velocity(latent, step.timestep)
        latent = step.from_latent * latent + step.from_clean * clean + step.from_previous * previous
        if step.from_noise:
            latent += step.from_noise * standard_noise(latent.shape, rng)
        previous = clean
    return latent
