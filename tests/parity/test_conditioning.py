import numpy as np
import pytest
import torch

from keyvid.runtime.diffusion.conditioning import audio_tokens
from keyvid_ref.conditioning import generator_audio, interpolator_audio

FRAMES = 48


@pytest.mark.parametrize("layout", ["paper", "released"])
def test_layouts_of_audio_tokens(layout, relative_error):
    tokens = np.random.default_rng(0).standard_normal((1 + 8 * FRAMES, 3), np.float32)
    keyframes = np.array([0, 9, 30, 47])
    batch, index = torch.from_numpy(tokens)[None], torch.from_numpy(keyframes)[None]
    want = generator_audio(batch, index, FRAMES, layout)[0]
    assert np.array_equal(audio_tokens(tokens, FRAMES, layout, keyframes), want)
    want = interpolator_audio(batch, FRAMES, layout)[0]
    assert relative_error(audio_tokens(tokens, FRAMES, layout, None), want) < 1e-5
