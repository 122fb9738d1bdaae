"""Noise schedule and samplers: betas to zero terminal SNR, dynamic rescale, DDIM, DPM-Solver++."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from keyvid.sampling import Solver

NUM_TIMESTEPS = 1000
_RESCALE_RAMP = 400  # timesteps over which the dynamic rescale falls to its final value


@dataclass(frozen=True)
class NoiseSchedule:
    """The forward process x_t = sqrt(alphas_cumprod_t) s_t x_0 + sqrt(1 - alphas_cumprod_t) noise.

    Attributes:
        alphas_cumprod: (1000,) float64, 0.99915 down to exactly 0.
        rescale: (1000,) float64, the dynamic rescale s_t, 1 down to `dynamic_rescale`.
    """

    alphas_cumprod: Tensor
    rescale: Tensor


def noise_schedule(dynamic_rescale: float = 0.7) -> NoiseSchedule:
    """Betas linear in their square root, rescaled to zero terminal SNR (arXiv 2305.08891)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2
    signal = torch.cumprod(1 - betas, 0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    rescale = torch.full((NUM_TIMESTEPS,), dynamic_rescale, dtype=torch.float64)
    rescale[:_RESCALE_RAMP] = torch.linspace(1, dynamic_rescale, _RESCALE_RAMP, dtype=torch.float64)
    return NoiseSchedule(signal**2, rescale)


def sampling_timesteps(num_steps: int, spacing: float = 1.0) -> Tensor:
    """Trailing spacing: (S,) int64, descending from 999, denser towards 0 where `spacing` > 1.

    Even ones are computed with one division each, so that halves are exact; they round to even.
    """
    remaining = torch.arange(num_steps, 0, -1)
    position = NUM_TIMESTEPS * remaining.double() / num_steps
    if spacing != 1:
        position = NUM_TIMESTEPS * (remaining.double() / num_steps) ** spacing
    return torch.maximum(position.round().long(), remaining) - 1


def predict_clean(latent: Tensor, velocity: Tensor, alpha_bar: Tensor) -> Tensor:
    """The rescaled clean latent s_t x_0 that velocity v predicts."""
    return alpha_bar.sqrt() * latent - (1 - alpha_bar).sqrt() * velocity


def ddim_sigma(alpha_bar: Tensor, next_alpha_bar: Tensor, eta: float) -> Tensor:
    """Standard deviation of the fresh noise of a DDIM step (arXiv 2010.02502, eq. 16)."""
    ratio = (1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar)
    return eta * ratio.sqrt()


def sample_ddim(
    predict_velocity: Callable[[Tensor, int], Tensor],
    latent: Tensor,
    schedule: NoiseSchedule,
    timesteps: Tensor,
    eta: float,
    draw_noise: Callable[[], Tensor],
) -> Tensor:
    """Denoise `latent` with DDIM under the dynamic rescale.

    The last step keeps the rescale of its own timestep instead of going to s_0, as in the release.

    Args:
        predict_velocity: (latent, timestep) -> guided velocity of the latent's shape.
        latent: initial noise x_T, float32.
        timesteps: (S,) int64, see `sampling_timesteps`.
        draw_noise: standard normal of the latent's shape; called once per step with noise.
    """
    path = timesteps.tolist()
    next_alpha_bars = schedule.alphas_cumprod[[*path[1:], 0]]
    next_rescales = schedule.rescale[[*path[1:], path[-1]]]
    for timestep, next_alpha_bar, next_rescale in zip(
        path, next_alpha_bars, next_rescales, strict=True
    ):
        alpha_bar = schedule.alphas_cumprod[timestep]
        sigma = ddim_sigma(alpha_bar, next_alpha_bar, eta)
        velocity = predict_velocity(latent, timestep)
        clean = predict_clean(latent, velocity, alpha_bar)
        clean = clean * next_rescale / schedule.rescale[timestep]
        noise = alpha_bar.sqrt() * velocity + (1 - alpha_bar).sqrt() * latent
        direction = (1 - next_alpha_bar - sigma**2).clamp(min=0).sqrt() * noise
        latent = next_alpha_bar.sqrt() * clean + direction
        if sigma > 0:
            latent = latent + sigma * draw_noise()
    return latent


def sample_dpm(
    predict_velocity: Callable[[Tensor, int], Tensor],
    latent: Tensor,
    schedule: NoiseSchedule,
    timesteps: Tensor,
    eta: float = 0.0,
    draw_noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Denoise `latent` at `timesteps` (S,) with DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2).

    It draws no noise: `eta` and `draw_noise`, which every sampler takes, are ignored.

    The dynamic rescale makes the signal level s_t sqrt(alpha_bar_t). First and last step are of
    first order: the first has no history, the last spans so much log-SNR that extrapolating over
    it would amplify the difference of two predictions.
    """
    signal = schedule.rescale * schedule.alphas_cumprod.sqrt()
    sigma = (1 - schedule.alphas_cumprod).sqrt()
    log_snr = signal.log() - sigma.log()  # -inf at t = 999: the terminal SNR is zero
    path = timesteps.tolist()
    previous_data, previous_width = torch.zeros_like(latent), torch.tensor(torch.inf)
    for step, (t, s) in enumerate(zip(path, [*path[1:], 0], strict=True)):
        velocity = predict_velocity(latent, t)
        data = predict_clean(latent, velocity, schedule.alphas_cumprod[t]) / schedule.rescale[t]
        width = log_snr[s] - log_snr[t]  # inf on the first step
        extrapolated = data
        if 0 < step < len(path) - 1:
            ratio = previous_width / width  # inf on the second step: first order there too
            extrapolated = data + (data - previous_data) / (2 * ratio)
        latent = sigma[s] / sigma[t] * latent - signal[s] * torch.expm1(-width) * extrapolated
        previous_data, previous_width = data, width
    return latent


SAMPLERS: dict[Solver, Callable[..., Tensor]] = {"ddim": sample_ddim, "dpm": sample_dpm}
