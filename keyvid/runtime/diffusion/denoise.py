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


@dataclass(frozen=True)
class Walk:
    """How far latents are on the way from noise: all that the next step needs.

    Attributes:
        num_done: steps so far.
        noise: (1, C, F, h, w) standard normal float32 that it began with.
        latent: as noisy as the next step expects.
        previous: clean latent of the step before, zeros before the first.
    """

    num_done: int
    noise: np.ndarray
    latent: np.ndarray
    previous: np.ndarray

    @classmethod
    def begin(cls, noise: np.ndarray) -> "Walk":
        """At the noise."""
        return cls(0, noise, noise, np.zeros_like(noise))


def denoise(
    velocity: Velocity,
    walk: Walk,
    schedule: Iterable[Step],
    rng: np.random.Generator,
    known: Known | None = None,
    keep: Callable[[Walk], None] = lambda walk: None,
) -> np.ndarray:
    """Follow `schedule` to the final latent.

    Args:
        velocity: gives the guided velocity for a latent and a timestep, in the latent's shape.
        walk: where to begin.
        schedule: the rows of `keyvid.runtime.diffusion.schedule` from there on.
        rng: draws the fresh noise of the rows that use it.
        known: frames that are put in place before each step, as noisy as the others, so that the
            network continues them.
        keep: called after each step.
    Returns:
        float32, shaped as the noise.
    """
    for step in schedule:
        latent = walk.latent
        if known:
            signal = step.signal * step.rescale * known.latents
            latent = latent.copy()
            latent[:, :, known.frames] = signal + step.sigma * walk.noise[:, :, known.frames]
        clean = step.signal * latent - step.sigma * velocity(latent, step.timestep)
        latent = (
            step.from_latent * latent + step.from_clean * clean + step.from_previous * walk.previous
        )
        if step.from_noise:
            latent += step.from_noise * standard_noise(latent.shape, rng)
        walk = Walk(walk.num_done + 1, walk.noise, latent, clean)
        keep(walk)
    if not known:
        return walk.latent
    latent = walk.latent.copy()
    latent[:, :, known.frames] = known.latents
    return latent
