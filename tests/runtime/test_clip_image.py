import numpy as np
import pytest

from keyvid.runtime.clip_image import CLIP_MEAN, CLIP_STD, clip_pixels


def test_fixture(parity, relative_error):
    data = parity("clip_preprocess")
    got = clip_pixels(data["image"][0].transpose(1, 2, 0), 224)
    assert got.dtype == np.float32
    # The release blurs and interpolates in float32; these are float64 matrices.
    assert relative_error(got, data["output"]) < 2e-5


@pytest.mark.parametrize("shape", [(5, 9), (56, 56), (64, 96), (20, 200)])
def test_a_flat_picture_stays_flat(shape):
    got = clip_pixels(np.full((*shape, 3), 0.5, np.float32), 56)
    want = (0.75 - CLIP_MEAN) / CLIP_STD
    assert np.abs(got - want[:, None, None]).max() < 1e-6  # weights of each output sum to 1


def test_the_right_size_is_only_normalised():
    image = np.random.default_rng(0).uniform(-1, 1, (56, 56, 3))
    want = ((image + 1) / 2 - CLIP_MEAN) / CLIP_STD
    assert np.abs(clip_pixels(image, 56)[0] - want.transpose(2, 0, 1)).max() < 1e-6


def test_enlarging_keeps_the_corners():
    image = np.random.default_rng(0).uniform(-1, 1, (20, 30, 3))
    got, want = clip_pixels(image, 56)[0], (((image + 1) / 2 - CLIP_MEAN) / CLIP_STD)
    corners = np.ix_([0, -1], [0, -1])
    assert np.abs(got.transpose(1, 2, 0)[corners] - want[corners]).max() < 1e-6
