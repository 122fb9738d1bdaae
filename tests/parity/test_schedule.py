import math

import numpy as np
import pytest
import torch

from keyvid.runtime.diffusion.denoise import Walk, denoise
from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.diffusion.schedule import SOLVERS, trailing_timesteps
from keyvid_ref.schedule import noise_schedule, sample_ddim, sample_dpm, sampling_timesteps

FLOOR = 0.7


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 48, 97, 999, 1000])
@pytest.mark.parametrize("spacing", [1, 1.8, 4])
def test_timesteps(steps, spacing):
    want = sampling_timesteps(steps, spacing)
    assert trailing_timesteps(steps, spacing).tolist() == want.tolist()


def velocity(latent, timestep):
    """Some smooth function of both, in the latent's precision."""
    return np.tanh(0.5 * latent + math.sin(timestep / 100))


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(solver, steps, relative_error):
    start = seeded(0).standard_normal((2, 3), np.float32)
    rng, reference_rng = seeded(1), seeded(1)
    timesteps = trailing_timesteps(steps, 1.7)
    got = denoise(velocity, Walk.begin(start), SOLVERS[solver](timesteps, 0.8, FLOOR), rng)

    def reference_velocity(latent, timestep):
        return torch.tanh(0.5 * latent + math.sin(timestep / 100))

    def draw():
        return torch.from_numpy(reference_rng.standard_normal((2, 3), np.float32))

    schedule = noise_schedule(FLOOR), sampling_timesteps(steps, 1.7)
    sampled = (reference_velocity, torch.from_numpy(start), *schedule)
    want = sample_dpm(*sampled) if solver == "dpm" else sample_ddim(*sampled, 0.8, draw)
    assert relative_error(got, want) < 1e-5
    assert rng.bit_generator.state == reference_rng.bit_generator.state
