"""Tensors of torch are pictures and sounds as arrays are, and the runtime does not import it."""

import numpy as np
import pytest
import torch

from keyvid.runtime.media.picture import load_image
from keyvid.runtime.media.sound import load_sound


def test_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    tensor, want = torch.from_numpy(picture), load_image(picture, 30, 40)
    np.testing.assert_array_equal(load_image(tensor, 30, 40), want)
    np.testing.assert_array_equal(load_image(tensor.permute(2, 0, 1), 30, 40), want)


@pytest.mark.parametrize("channels_first", [False, True])
def test_sound(channels_first: bool) -> None:
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (16_000, 2)).astype(np.float32)
    tensor = torch.from_numpy(stereo.T if channels_first else stereo)
    np.testing.assert_allclose(load_sound((tensor, 16_000), 1.0).samples, stereo)
