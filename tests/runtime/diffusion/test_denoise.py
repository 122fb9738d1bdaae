import json
from pathlib import Path

import numpy as np
import pytest

from keyvid.runtime.diffusion.denoise import Known, Walk, denoise
from keyvid.runtime.diffusion.guidance import branch_weights, combine
from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.diffusion.schedule import (
    SOLVERS,
    alphas_cumprod,
    ddim,
    dynamic_rescale,
    trailing_timesteps,
)

SHAPE = (1, 4, 3, 4, 5)


class StoredNoise:
    """Stands in for the random generator: the noise of the fixture, in order."""

    def __init__(self, fill):
        self.fill = fill
        self.drawn = 0

    def standard_normal(self, shape, dtype):
        self.drawn += 1
        return self.fill.tensor(f"ddim:noise{self.drawn - 1}", shape)


@pytest.mark.parametrize(("steps", "eta"), [(6, 0), (6, 1), (90, 1)])
def test_released_trajectory(steps, eta, parity, fill, relative_error):
    stored = Path(__file__).parents[2] / "fixtures" / "ddim.branches.json"
    branches = json.loads(stored.read_text()).values()
    shift = fill.tensor("ddim:shift", SHAPE)
    weights = branch_weights(image=2.0, text=7.5, audio=7.5)

    def velocity(latent, timestep):
        velocities = [
            np.tanh(0.5 * latent * b["gain"] + np.sin(timestep / 100) + b["shift"] * shift)
            for b in branches
        ]
        return combine(np.concatenate(velocities).astype(np.float32), weights, rescale=0.7)

    start = fill.tensor("ddim:x_T", SHAPE)
    got = denoise(
        velocity, Walk.begin(start), ddim(trailing_timesteps(steps), eta, 0.7), StoredNoise(fill)
    )
    assert got.dtype == np.float32
    # Guidance scales of 7.5 amplify the rounding of float32 from step to step.
    assert relative_error(got, parity(f"ddim_{steps}_eta{eta}")["output"]) < 5e-5


@pytest.mark.parametrize("solver", SOLVERS)
def test_known_frames_are_as_noisy_as_the_others_and_come_out_as_they_were(solver):
    rng = np.random.default_rng(0)
    start = rng.standard_normal(SHAPE, np.float32)
    known = Known(np.array([0, 2]), rng.standard_normal((1, 4, 2, 4, 5), np.float32))
    given, seen = start.copy(), {}

    def velocity(latent, timestep):
        seen[timestep] = latent.copy()
        return np.tanh(latent)

    timesteps = trailing_timesteps(5)
    schedule = SOLVERS[solver](timesteps, 1.0, 0.7)
    got = denoise(velocity, Walk.begin(start), schedule, seeded(1), known)
    free = denoise(lambda latent, _: np.tanh(latent), Walk.begin(start), schedule, seeded(1))
    assert np.array_equal(got[:, :, known.frames], known.latents)
    assert np.array_equal(got[:, :, 1], free[:, :, 1]), "the network here mixes no frames"
    assert np.array_equal(start, given)
    assert list(seen) == timesteps.tolist()
    for timestep, latent in seen.items():
        level = alphas_cumprod()[timestep]
        signal = np.sqrt(level) * dynamic_rescale(0.7)[timestep] * known.latents
        want = signal + np.sqrt(1 - level) * given[:, :, known.frames]
        np.testing.assert_allclose(latent[:, :, known.frames], want, atol=1e-6)
