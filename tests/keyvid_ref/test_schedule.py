import json
from pathlib import Path

import numpy as np
import pytest
import torch

from keyvid_ref.pipeline import guide
from keyvid_ref.schedule import (
    ddim_sigma,
    noise_schedule,
    sample_ddim,
    sample_dpm,
    sampling_timesteps,
)

_LATENT_SHAPE = (1, 4, 3, 4, 5)


def test_noise_schedule_is_the_released_one(parity):
    expected = parity("schedule")
    schedule = noise_schedule()
    # The release stores alphas_cumprod in float32: 3e-8 of rounding.
    np.testing.assert_allclose(schedule.alphas_cumprod, expected["alphas_cumprod"], atol=1e-7)
    np.testing.assert_allclose(schedule.rescale, expected["rescale"], atol=1e-12)
    assert schedule.alphas_cumprod[-1] == 0


@pytest.mark.parametrize("num_steps", [25, 90])
@pytest.mark.parametrize("eta", [0, 1])
def test_steps_are_the_released_ones(parity, num_steps, eta):
    expected = parity("schedule")
    timesteps = sampling_timesteps(num_steps).flip(0)
    np.testing.assert_array_equal(timesteps, expected[f"timesteps_{num_steps}"])
    alphas_cumprod = noise_schedule().alphas_cumprod
    alpha_bars = alphas_cumprod[timesteps]
    next_alpha_bars = alphas_cumprod[torch.cat([torch.tensor([0]), timesteps[:-1]])]
    sigmas = ddim_sigma(alpha_bars, next_alpha_bars, eta)
    # float32 alphas in the release move a sigma by up to 4e-7.
    np.testing.assert_allclose(sigmas, expected[f"sigmas_{num_steps}_eta{eta}"], atol=1e-6)


def test_every_number_of_steps_is_descending_from_the_end():
    for num_steps in range(1, 1001):
        timesteps = sampling_timesteps(num_steps)
        assert len(timesteps) == num_steps
        assert timesteps[0] == 999
        assert (timesteps.diff() < 0).all()
        assert timesteps[-1] >= 0


@pytest.fixture
def predict_velocity(parity, fill):
    """The guided closed-form network of the ddim fixtures."""
    branches = json.loads((Path(fill.__file__).parent / "ddim.branches.json").read_text())
    shift = torch.from_numpy(fill.tensor("ddim:shift", _LATENT_SHAPE))

    def predict(latent, timestep):
        velocities = [
            torch.tanh(
                0.5 * branch["gain"] * latent + np.sin(timestep / 100) + branch["shift"] * shift
            )
            for branch in branches.values()
        ]
        return guide(torch.cat(velocities), (2.0, 7.5, 7.5), 0.7)

    return predict


@pytest.fixture
def initial_noise(fill):
    return torch.from_numpy(fill.tensor("ddim:x_T", _LATENT_SHAPE))


@pytest.mark.parametrize(("num_steps", "eta"), [(6, 0.0), (6, 1.0), (90, 1.0)])
def test_ddim_follows_the_released_trajectory(
    parity, fill, relative_error, predict_velocity, initial_noise, num_steps, eta
):
    draws = iter(range(num_steps))
    latent = sample_ddim(
        predict_velocity,
        initial_noise,
        noise_schedule(),
        sampling_timesteps(num_steps),
        eta,
        lambda: torch.from_numpy(fill.tensor(f"ddim:noise{next(draws)}", _LATENT_SHAPE)),
    )
    expected = parity(f"ddim_{num_steps}_eta{eta:.0f}")["output"]
    # Guidance of 7.5 amplifies the rounding of the release's float32 coefficients to about 1e-5.
    assert relative_error(latent, expected) < 5e-5


def test_dpm_converges_to_the_same_solution_as_ddim_but_faster(predict_velocity, initial_noise):
    schedule = noise_schedule()

    def smooth(latent, timestep):
        return torch.tanh(0.5 * latent + np.sin(timestep / 100))

    def error(latent):
        return (latent - exact).norm() / exact.norm()

    def never():
        raise AssertionError("eta 0 draws no noise")

    exact, coarse, fine = (
        sample_dpm(smooth, initial_noise, schedule, sampling_timesteps(steps))
        for steps in (500, 20, 40)
    )
    first_order = sample_ddim(smooth, initial_noise, schedule, sampling_timesteps(40), 0.0, never)
    assert error(fine) < 0.5 * error(coarse)
    assert error(fine) < 0.5 * error(first_order)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 1000])
def test_both_solvers_stay_finite_at_the_edges(initial_noise, num_steps):
    schedule = noise_schedule()

    def steady(latent, timestep):
        return 0.1 * latent

    timesteps = sampling_timesteps(num_steps)
    dpm = sample_dpm(steady, initial_noise, schedule, timesteps)
    ddim = sample_ddim(
        steady, initial_noise, schedule, timesteps, 1.0, lambda: torch.zeros(_LATENT_SHAPE)
    )
    assert torch.isfinite(dpm).all()
    assert torch.isfinite(ddim).all()


def test_a_perfect_network_recovers_the_clean_latent(fill, initial_noise):
    """A velocity that always points at one latent leads there, whatever the solver."""
    schedule = noise_schedule()
    clean = torch.from_numpy(fill.tensor("clean", _LATENT_SHAPE))

    def points_at_clean(latent, timestep):
        alpha_bar = schedule.alphas_cumprod[timestep]
        scaled = schedule.rescale[timestep] * clean
        return (alpha_bar.sqrt() * latent - scaled) / (1 - alpha_bar).sqrt()

    latent = sample_dpm(points_at_clean, initial_noise, schedule, sampling_timesteps(10))
    # alpha_bar(0) = 0.99915 leaves noise of deviation 0.03 on the result.
    assert (latent - clean).abs().max() < 0.15
