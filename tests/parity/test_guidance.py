import numpy as np
import pytest
import torch

from keyvid.runtime.diffusion.guidance import branch_weights, combine
from keyvid_ref.pipeline import guide

VELOCITIES = np.random.default_rng(0).standard_normal((4, 2, 3, 4, 5), np.float32)


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_guided_velocity(rescale):
    want = guide(torch.from_numpy(VELOCITIES), (2.0, 7.5, 9.0), rescale)
    got = combine(VELOCITIES, branch_weights(2, 7.5, 9), rescale)
    assert np.allclose(got, want, atol=1e-4)  # values reach 50: a few units in the last place
