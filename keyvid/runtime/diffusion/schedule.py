"""Sampling schedules: a solver is a table of coefficients, one row per step."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from keyvid.sampling import NUM_TRAIN_STEPS, Solver

RESCALE_STEPS = 400  # the dynamic rescale falls linearly over these timesteps, then stays


class Step(NamedTuple):
    """One row: how to read the model's velocity and how to make the next latent from it.

    With v the velocity that the model predicts for the latent x,
        clean  = signal * x - sigma * v
        next x = x * from_latent + clean * from_clean + clean of the row before * from_previous
                 + fresh standard normal noise * from_noise

    `clean` is the clean latent times the dynamic rescale of its timestep, `rescale`; the
    coefficients know.
    """

    timestep: int
    rescale: float
    signal: float
    sigma: float
    from_latent: float
    from_clean: float
    from_previous: float
    from_noise: float


Schedule = tuple[Step, ...]


def alphas_cumprod() -> np.ndarray:
    """(1000,) float64 squared signal level per timestep, exactly 0 at the last one.

    Betas linear in the square root from 0.00085 to 0.012, then shifted and scaled to zero terminal
    signal-to-noise ratio ("Common Diffusion Noise Schedules and Sample Steps are Flawed", alg. 1).
    """
    betas = np.linspace(0.00085**0.5, 0.012**0.5, NUM_TRAIN_STEPS) ** 2
    signal = np.sqrt(np.cumprod(1 - betas))
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    return np.asarray(signal**2)


def dynamic_rescale(floor: float) -> np.ndarray:
    """(1000,) float64 factor on the clean latent that the model was trained to predict.

    Linear from 1 to `floor` over the first 400 timesteps, `floor` after them.
    """
    ramp = np.linspace(1.0, floor, RESCALE_STEPS)
    return np.concatenate([ramp, np.full(NUM_TRAIN_STEPS - RESCALE_STEPS, floor)])


def trailing_timesteps(steps: int, spacing: float = 1.0) -> np.ndarray:
    """(steps,) int64 timesteps, descending from 999.

    The n-th from the end is near 1000 (n / steps) ** spacing, and not below n - 1: with spacing 1
    "trailing" ones, as in the release.
    """
    number = np.arange(steps, 0, -1)
    spaced = NUM_TRAIN_STEPS * number / steps * (number / steps) ** (spacing - 1)
    return np.asarray(np.maximum(np.round(spaced).astype(np.int64), number) - 1)


def ddim(timesteps: np.ndarray, eta: float, rescale_floor: float) -> Schedule:
    """DDIM table for `timesteps` (S,) int64.

    `eta` 0 is deterministic, 1 draws as much noise as ancestral sampling.

    With e the noise in x, x' = sqrt(a') clean s'/s + sqrt(1 - a' - sigma^2) e + sigma z. As
    e = (x - sqrt(a) clean) / sqrt(1 - a), e splits into the columns of x and of the clean latent.
    """
    alphas, rescale = alphas_cumprod(), dynamic_rescale(rescale_floor)[timesteps]
    a, a_next = alphas[timesteps], alphas[np.append(timesteps[1:], 0)]
    rescale_next = np.append(rescale[1:], rescale[-1])  # the last ratio is 1, as in the release
    noise = eta * np.sqrt((1 - a_next) / (1 - a) * (1 - a / a_next))
    from_latent = np.sqrt((1 - a_next - noise**2).clip(min=0) / (1 - a))
    from_clean = np.sqrt(a_next) * rescale_next / rescale - np.sqrt(a) * from_latent
    return _table(timesteps, rescale, a, from_latent, from_clean, np.zeros(len(timesteps)), noise)


def dpm_solver(timesteps: np.ndarray, eta: float, rescale_floor: float) -> Schedule:
    """DPM-Solver++(2M) table (Lu et al. 2022, algorithm 2) for `timesteps` (S,) int64.

    `eta` has no meaning and is ignored.
    The dynamic rescale s makes the signal level s sqrt(a) and the data prediction clean / s. The
    first and the last step are of first order: the last spans so much log-SNR that extrapolating
    over it would amplify the difference of two predictions. At zero terminal signal-to-noise ratio
    the first step is infinitely wide in log-SNR, and the extrapolation of the second one vanishes.
    """
    steps = len(timesteps)
    path = np.append(timesteps, 0)
    alphas, rescale = alphas_cumprod()[path], dynamic_rescale(rescale_floor)[path]
    signal, sigma = rescale * np.sqrt(alphas), np.sqrt(1 - alphas)  # (steps + 1,)
    with np.errstate(divide="ignore"):
        width = np.diff(np.log(signal / sigma))  # h, inf in the first row
    extrapolation = np.zeros(steps)  # 1 / (2 r), with r the width of the row before over h
    extrapolation[1:-1] = width[1:-1] / (2 * width[:-2])

    from_data = signal[1:] * -np.expm1(-width)
    from_clean = from_data * (1 + extrapolation) / rescale[:-1]
    from_previous = -from_data * extrapolation / np.roll(rescale[:-1], 1)
    from_latent = sigma[1:] / sigma[:-1]
    return _table(
        timesteps,
        rescale[:-1],
        alphas[:-1],
        from_latent,
        from_clean,
        from_previous,
        np.zeros(steps),
    )


SOLVERS: dict[Solver, Callable[[np.ndarray, float, float], Schedule]] = {
    "ddim": ddim,
    "dpm": dpm_solver,
}


def _table(
    timesteps: np.ndarray, rescale: np.ndarray, a: np.ndarray, *coefficients: np.ndarray
) -> Schedule:
    columns = (timesteps, rescale, np.sqrt(a), np.sqrt(1 - a), *coefficients)
    # Python numbers: NumPy float64 scalars would turn the float32 latents into float64.
    return tuple(Step(*row) for row in zip(*(c.tolist() for c in columns), strict=True))
