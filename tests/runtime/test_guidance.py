import numpy as np
import pytest
import torch

from keyvid.runtime.guidance import (
    active_branches,
    batch_sizes,
    branch_weights,
    combine,
    guided_velocity,
)
from keyvid_ref.pipeline import guide

SHAPE = (4, 2, 3, 4, 5)
VELOCITIES = np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def test_weights_are_the_formula():
    none, image, text, audio = VELOCITIES.astype(np.float64)
    want = none + 2 * (image - none) + 7.5 * (text - image) + 9 * (audio - text)
    got = combine(VELOCITIES, branch_weights(2, 7.5, 9), rescale=0)
    assert got.dtype == np.float32
    assert np.abs(got[0] - want).max() < 1e-5


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1.0])
def test_reference(rescale):
    want = guide(torch.from_numpy(VELOCITIES), (2.0, 7.5, 9.0), rescale)
    got = combine(VELOCITIES, branch_weights(2, 7.5, 9), rescale)
    assert np.allclose(got, want, atol=1e-4)  # values reach 50: a few units in the last place


def test_rescale_pulls_the_spread_to_the_last_branch():
    weights = branch_weights(2, 7.5, 9)
    whole, plain = combine(VELOCITIES, weights, rescale=1), combine(VELOCITIES, weights, rescale=0)
    assert whole.std(ddof=1) == pytest.approx(VELOCITIES[3].std(ddof=1), rel=1e-5)
    mixed = combine(VELOCITIES, weights, rescale=0.7)
    assert np.allclose(mixed, 0.7 * whole + 0.3 * plain, atol=1e-5)


def test_one_branch_is_left_alone():
    got = combine(VELOCITIES[3:], np.array([1.0]), rescale=0.7)
    assert np.allclose(got, VELOCITIES[3:], atol=1e-6)


@pytest.mark.parametrize(
    ("active", "exported", "wanted", "sizes"),
    [
        (4, (1, 2, 3, 4), None, (4, 2, 1)),
        (3, (1, 2, 3, 4), None, (3, 1)),
        (3, (1, 2, 4), None, (1,)),
        (2, (1, 2, 4), None, (2, 1)),
        (1, (1, 2, 4), None, (1,)),
        (4, (1, 2), None, (2, 1)),
        (2, (1, 2, 4), 4, (2,)),
        (4, (1, 2, 4), 2, (2,)),
        (3, (1, 2, 4), 1, (1,)),
        (3, (1, 2, 4), 3, (4,)),
    ],
)
def test_batch_sizes(active, exported, wanted, sizes):
    assert batch_sizes(active, exported, wanted) == sizes


@pytest.mark.parametrize(
    ("scales", "active"),
    [
        ((2, 7.5, 9), [0, 1, 2, 3]),
        ((2, 2, 9), [0, 2, 3]),
        ((2, 7.5, 7.5), [0, 1, 3]),
        ((1, 1, 2.5), [2, 3]),
        ((1, 1, 1), [3]),
        ((1, 1, 0), [2, 3]),  # the last has no weight, but its spread counts
    ],
)
def test_branches_without_weight_are_not_run(scales, active):
    branches, weights = active_branches(*scales)
    assert branches.tolist() == active
    assert weights.tolist() == branch_weights(*scales)[active].tolist()
    assert weights.sum() == pytest.approx(1)


class RecordedUNet:
    """A network whose output is made of all its inputs; it keeps to the rules of an engine."""

    def __init__(self):
        self.bound = {}
        self.calls = []

    def bind(self, **inputs):
        self.bound |= inputs

    def __call__(self, **inputs):
        assert not inputs.keys() & self.bound.keys()
        self.calls.append(inputs)
        every = self.bound | inputs
        latent, told = every["latent"], every["context"].mean(axis=(1, 2))
        assert every["fps"].shape == every["timestep"].shape == (1,)
        told = told + every["audio"].mean(axis=(1, 2, 3)) + every["fps"] + every["timestep"] / 1e3
        half = latent.shape[1] // 2
        mixed = latent[:, :half] * (1 + every["frame_index"].mean(axis=1))[0] + latent[:, half:]
        return np.sin(mixed + told[:, None, None, None, None]).astype(np.float32)


@pytest.mark.parametrize("active", [1, 2, 3, 4])
def test_batches_do_not_change_the_result(active):
    rng = np.random.default_rng(1)
    latent, condition = rng.standard_normal((2, 1, 2, 3, 4, 5), np.float32)
    inputs = {
        "condition": condition,
        "context": rng.standard_normal((active, 7, 6), np.float32),
        "audio": rng.standard_normal((active, 3, 9, 5), np.float32),
        "fps": np.array(6),
        "frame_index": np.array([0, 4, 9]),
    }
    weights = np.arange(1.0, active + 1)
    results = []
    for batch in (1, 2, 3, 4):
        unet = RecordedUNet()
        velocity = guided_velocity(unet, batch, weights, 0.7, **inputs)
        results.append(velocity(latent, 999))
        assert len(unet.calls) == -(-active // batch)
        assert all(call["latent"].shape == (1, 4, 3, 4, 5) for call in unet.calls)
        assert unet.bound["frame_index"].shape == (1, 3)
        if batch >= active:
            assert unet.calls[0].keys() == {"latent", "timestep"}  # all else crosses once
    for result in results[1:]:
        assert np.allclose(results[0], result, atol=1e-5)  # the order of a float32 sum
