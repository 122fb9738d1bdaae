import numpy as np
import torch

from keyvid.runtime.diffusion.noise import FrameNoise, seeded
from keyvid_ref.pipeline import draw_windowed_noise

SHAPE = (1, 4, 48, 6, 8)


def test_frame_noise():
    want = draw_windowed_noise(seeded(9), torch.Size(SHAPE), 12, 6)
    assert np.array_equal(FrameNoise.draw(SHAPE, 12, 6, seeded(9)).frames(0, 48), want)
