import numpy as np
import pytest
import torch

from keyvid.runtime.clip_image import clip_pixels
from keyvid_ref.clip_preprocess import clip_preprocess


@pytest.mark.parametrize("shape", [(64, 96), (300, 40), (40, 41)])
def test_clip_pixels(shape, relative_error):
    image = np.random.default_rng(0).uniform(-1, 1, (*shape, 3)).astype(np.float32)
    want = clip_preprocess(torch.from_numpy(image).permute(2, 0, 1)[None], 56)
    # Kernels are float32 in the reference, float64 here.
    assert relative_error(clip_pixels(image, 56), want) < 1e-5
