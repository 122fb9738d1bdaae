import numpy as np
import pytest
import torch

from keyvid_ref.conditioning import generator_audio, generator_image, interpolator_audio


def test_released_layout(parity, fill):
    data = parity("conditioning")
    audio = torch.from_numpy(fill.tensor("conditioning:audio", (2, 577, 8)))
    image = torch.from_numpy(fill.tensor("conditioning:image", (2, 768, 8)))
    keyframes = torch.from_numpy(data["keyframes"])
    # Generator tokens are picked; the interpolator's are weighted sums of two.
    np.testing.assert_array_equal(
        generator_audio(audio, keyframes, 48, "released"), data["generator_audio"]
    )
    np.testing.assert_array_equal(generator_image(image, keyframes, 48), data["generator_image"])
    np.testing.assert_allclose(
        interpolator_audio(audio, 48, "released"), data["interpolator_audio"], atol=1e-5
    )


def test_paper_layout_gives_a_frame_its_own_tokens():
    num_frames, num_patches = 6, 2
    # Token value: -1 for the class token, else 10 * patch + frame (frequency major).
    values = [-1.0] + [10 * p + t for p in range(num_patches) for t in range(num_frames)]
    tokens = torch.tensor(values)[None, :, None]
    keyframes = torch.tensor([[0, 4]])
    audio = generator_audio(tokens, keyframes, num_frames, "paper")
    assert audio[0, :, :, 0].tolist() == [[-1, 0, 10], [-1, 4, 14]]
    everything = interpolator_audio(tokens, num_frames, "paper")
    torch.testing.assert_close(everything[:, [0, 4]], audio)


def test_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"'papr'.*'paper' or 'released'"):
        interpolator_audio(torch.zeros(1, 13, 4), 6, "papr")
