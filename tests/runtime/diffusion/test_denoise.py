import json
from pathlib import Path

import numpy as np
import pytest

from keyvid.runtime.diffusion.denoise import denoise
from keyvid.runtime.diffusion.guidance import branch_weights, combine
from keyvid.runtime.diffusion.schedule import ddim, trailing_timesteps

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
    got = denoise(velocity, start, ddim(trailing_timesteps(steps), eta, 0.7), StoredNoise(fill))
    assert got.dtype == np.float32
    # Guidance scales of 7.5 amplify the rounding of float32 from step to step.
    assert relative_error(got, parity(f"ddim_{steps}_eta{eta}")["output"]) < 5e-5
