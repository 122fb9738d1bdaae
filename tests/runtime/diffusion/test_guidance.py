import numpy as np
import pytest

from keyvid.runtime.diffusion.guidance import (
    active_branches,
    branch_weights,
    combine,
    count_branches,
    guidance_rows,
    guided_velocity,
)
from keyvid.sampling import Sampling, UNetSampling

SHAPE = (4, 2, 3, 4, 5)
VELOCITIES = np.random.default_rng(0).standard_normal(SHAPE, np.float32)


def test_weights_are_the_formula():
    none, image, text, audio = VELOCITIES.astype(np.float64)
    want = none + 2 * (image - none) + 7.5 * (text - image) + 9 * (audio - text)
    got = combine(VELOCITIES, branch_weights(2, 7.5, 9), rescale=0)
    assert got.dtype == np.float32
    assert np.abs(got[0] - want).max() < 1e-5


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
    weights = branch_weights(*scales)
    assert active_branches(weights) == tuple(active)
    assert weights[active].sum() == pytest.approx(1)


def test_only_guided_timesteps_take_several_branches():
    rows = guidance_rows(UNetSampling(steps=5, guidance_from=800, guidance_until=300))
    active = {timestep: active_branches(weights) for timestep, weights in rows.items()}
    assert active == {999: (3,), 799: (0, 1, 3), 599: (0, 1, 3), 399: (0, 1, 3), 199: (3,)}


def test_the_most_branches_of_a_step_count():
    sampling = Sampling(
        generator=UNetSampling(steps=5, guidance_audio=8.0, guidance_from=800, guidance_until=300),
        interpolator=UNetSampling(guidance_image=1.0, guidance_text=1.0, guidance_audio=1.0),
    )
    rows = guidance_rows(sampling.generator).values()
    most = max(len(active_branches(row)) for row in rows)
    assert len(active_branches(next(iter(rows)))) == 1 < most
    assert count_branches(sampling) == {"generator": most, "interpolator": 1}


class RecordedUNet:
    """A network whose output is made of all its inputs; it keeps to the rules of an engine.

    Args:
        most: guidance branches per call, of which there are graphs for each number.
    """

    def __init__(self, most):
        self.most = most
        self.bound = {}
        self.calls = []

    def use(self, branches):
        self.bound = {}
        return min(branches, self.most)

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


@pytest.fixture
def inputs():
    rng = np.random.default_rng(1)
    return {
        "condition": rng.standard_normal((1, 2, 3, 4, 5), np.float32),
        "context": rng.standard_normal((4, 7, 6), np.float32),
        "audio": rng.standard_normal((4, 3, 9, 5), np.float32),
        "fps": np.array(6),
        "frame_index": np.array([0, 4, 9]),
    }


LATENT = np.random.default_rng(2).standard_normal((1, 2, 3, 4, 5), np.float32)


def expected(weights, inputs):
    """The weighted sum of each branch by itself, its spread pulled to that of the last by 0.7."""
    told = inputs["context"].mean(axis=(1, 2)) + inputs["audio"].mean(axis=(1, 2, 3)) + 6 + 0.999
    mixed = LATENT * (1 + inputs["frame_index"].mean()) + inputs["condition"]
    branches = np.sin(mixed + told[:, None, None, None, None])
    guided = np.tensordot(weights, branches, axes=1)
    return guided * (0.7 * branches[3].std() / guided.std() + 0.3)


@pytest.mark.parametrize("weights", [(0, 0, 0, 1), (0, 0, 3, 1), (1, 2, 0, 4), (1, 2, 3, 4)])
def test_batches_do_not_change_the_result(weights, inputs):
    active = np.count_nonzero(weights)
    results = []
    for most in (1, 2, 3, 4):
        unet = RecordedUNet(most)
        velocity = guided_velocity(unet, {999: np.array(weights)}, 0.7, **inputs)
        results.append(velocity(LATENT, 999))
        assert len(unet.calls) == -(-active // most)
        assert all(call["latent"].shape == (1, 4, 3, 4, 5) for call in unet.calls)
        assert unet.bound["frame_index"].shape == (1, 3)
        if most >= active:
            assert unet.calls[0].keys() == {"latent", "timestep"}  # all else crosses once
    for result in results:
        assert np.allclose(result, expected(weights, inputs), atol=1e-5)  # a float32 sum's order


def test_steps_with_other_branches_are_what_they_are_alone(inputs):
    rows = {
        9: np.array([0, 0, 0, 1]),
        8: np.array([1, 2, 0, 4]),
        7: np.array([3, 1, 0, 2]),
        6: np.array([0, 0, -1, 2]),
    }
    unet = RecordedUNet(4)
    velocity = guided_velocity(unet, rows, 0.7, **inputs)
    together = [velocity(LATENT, timestep) for timestep in rows]
    assert len(unet.calls) == len(rows)
    for timestep, got in zip(rows, together, strict=True):
        alone = guided_velocity(RecordedUNet(4), rows, 0.7, **inputs)
        assert np.array_equal(got, alone(LATENT, timestep))
    assert not np.allclose(together[0], together[3], atol=0.01)
