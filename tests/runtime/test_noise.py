import numpy as np
import pytest
import torch

from keyvid.errors import SettingsError
from keyvid.runtime.noise import check_seed, seeded, window_noise
from keyvid_ref.pipeline import draw_windowed_noise

SHAPE = (1, 4, 48, 6, 8)


def test_reference():
    want = draw_windowed_noise(seeded(9), torch.Size(SHAPE), 12, 6)
    assert np.array_equal(window_noise(SHAPE, 12, 6, seeded(9)), want)


def test_blocks_are_shuffled_copies_of_the_first_window():
    noise = window_noise(SHAPE, 12, 6, seeded(0))
    assert noise.dtype == np.float32
    for start in range(12, 48, 6):
        block, source = noise[0, :, start : start + 6], noise[0, :, start - 12 : start - 6]
        matches = (block[:, :, None] == source[:, None]).all(axis=(0, 3, 4))  # (6, 6) frames
        assert (matches.sum(axis=0) == 1).all()
        assert (matches.sum(axis=1) == 1).all()
    assert not np.array_equal(noise[:, :, 12:18], noise[:, :, :6])


def test_unit_variance():
    noise = window_noise((1, 4, 48, 32, 32), 12, 6, seeded(1))
    assert abs(noise.std() - 1) < 0.01  # 49,152 independent values: one sigma is 0.003
    assert abs(noise.mean()) < 0.02


def test_same_seed_same_noise():
    one, again, other = (window_noise(SHAPE, 12, 6, seeded(seed)) for seed in (5, 5, 6))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "1"])
def test_wrong_seed(seed):
    with pytest.raises(SettingsError, match="want a whole number, 0 to 9223372036854775807"):
        check_seed(seed)


def test_seed():
    assert check_seed(0) == 0
    assert check_seed(2**63 - 1) == 2**63 - 1
