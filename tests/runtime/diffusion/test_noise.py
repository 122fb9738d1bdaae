import numpy as np
import pytest

from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.noise import FrameNoise, check_seed, seeded

SHAPE = (1, 4, 48, 6, 8)


def test_blocks_are_shuffled_copies_of_the_first_window():
    noise = FrameNoise.draw(SHAPE, 12, 6, seeded(0)).frames(0, 48)
    assert noise.dtype == np.float32
    for start in range(12, 48, 6):
        block, source = noise[0, :, start : start + 6], noise[0, :, start - 12 : start - 6]
        matches = (block[:, :, None] == source[:, None]).all(axis=(0, 3, 4))  # (6, 6) frames
        assert (matches.sum(axis=0) == 1).all()
        assert (matches.sum(axis=1) == 1).all()
    assert not np.array_equal(noise[:, :, 12:18], noise[:, :, :6])


def test_unit_variance():
    noise = FrameNoise.draw((1, 4, 48, 32, 32), 12, 6, seeded(1)).frames(0, 48)
    assert abs(noise.std() - 1) < 0.01  # 49,152 independent values: one sigma is 0.003
    assert abs(noise.mean()) < 0.02


def test_same_seed_same_noise():
    noises = [FrameNoise.draw(SHAPE, 12, 6, seeded(seed)) for seed in (5, 5, 6)]
    one, again, other = (noise.frames(0, 48) for noise in noises)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_longer_clip_goes_on_with_the_same_frames():
    noise = FrameNoise.draw(SHAPE, 12, 6, seeded(0))
    before = noise.frames(40, 48)
    noise.extend(92, seeded(0, 1))
    assert len(noise.order) == 96, "whole blocks of 6, and none that is not needed"
    assert np.array_equal(noise.frames(40, 48), before)
    for start in range(48, 90, 6):
        assert sorted(noise.order[start : start + 6]) == sorted(noise.order[start - 12 : start - 6])


def test_each_window_has_noise_of_its_own():
    first, second = (seeded(5, window).standard_normal(4) for window in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, np.random.Generator(np.random.PCG64(5)).standard_normal(4))
    assert np.array_equal(first, seeded(5).standard_normal(4))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "1"])
def test_wrong_seed(seed):
    with pytest.raises(SettingsError, match="want a whole number, 0 to 9223372036854775807"):
        check_seed(seed)


def test_seed():
    assert check_seed(0) == 0
    assert check_seed(2**63 - 1) == 2**63 - 1


def test_as_many_blocks_are_drawn_as_the_frames_need():
    rng, count = seeded(0), seeded(0)
    noise = FrameNoise.draw(SHAPE, 12, 6, rng)
    assert len(noise.order) == 48
    count.standard_normal((1, 4, 12, 6, 8), np.float32)
    for _ in range((48 - 12) // 6):
        count.permutation(6)
    assert rng.bit_generator.state == count.bit_generator.state
