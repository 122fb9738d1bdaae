import numpy as np
import pytest

from keyvid.runtime.diffusion.conditioning import (
    BRANCHES,
    Conditions,
    audio_tokens,
    image_tokens,
    repeated_first_frame,
    scattered_keyframes,
)

FRAMES = 48


@pytest.mark.parametrize("clip", [0, 1])
def test_released_layout(clip, parity, fill, relative_error):
    data = parity("conditioning")
    keyframes = data["keyframes"][clip]
    audio = fill.tensor("conditioning:audio", (2, 577, 8))[clip]
    image = fill.tensor("conditioning:image", (2, 768, 8))[clip]
    got = audio_tokens(audio, FRAMES, "released", keyframes)
    assert np.array_equal(got, data["generator_audio"][clip])
    assert np.array_equal(image_tokens(image, FRAMES, keyframes), data["generator_image"][clip])
    got = audio_tokens(audio, FRAMES, "released", None)
    # Positions are float32 in the release.
    assert relative_error(got, data["interpolator_audio"][clip]) < 1e-5


def test_paper_layout_gives_each_frame_its_own_time():
    patches = np.arange(8 * FRAMES).reshape(8, FRAMES, 1)  # frequency major
    tokens = np.concatenate([[[-1]], patches.reshape(-1, 1)])
    whole = audio_tokens(tokens, FRAMES, "paper", None)
    assert whole.shape == (FRAMES, 9, 1)
    assert (whole[:, 0] == -1).all()
    assert np.array_equal(whole[17, 1:], patches[:, 17])
    some = np.array([0, 5, 47])
    assert np.array_equal(audio_tokens(tokens, FRAMES, "paper", some), whole[some])


def test_branches_are_told_one_thing_more_each():
    conditions = Conditions(
        image=np.stack([np.zeros((FRAMES * 4, 2)), np.ones((FRAMES * 4, 2))]),
        text=np.stack([np.zeros((16, 2)), np.full((16, 2), 2.0)]),
        audio=np.stack([np.zeros((1 + 8 * FRAMES, 3)), np.full((1 + 8 * FRAMES, 3), 4.0)]),
    )
    keyframes = np.array([0, 7, 9])
    context, audio = conditions.per_branch(np.arange(4), FRAMES, "paper", keyframes)
    assert context.shape == (4, 16 + 3 * 4, 2)
    assert audio.shape == (4, 3, 9, 3)
    text, image = context[:, :16].mean(axis=(1, 2)), context[:, 16:].mean(axis=(1, 2))
    assert text.tolist() == [0, 0, 2, 2]
    assert image.tolist() == [0, 1, 1, 1]
    assert audio.mean(axis=(1, 2, 3)).tolist() == [0, 0, 0, 4]
    chosen = np.array([0, 3])
    part, _ = conditions.per_branch(chosen, FRAMES, "paper", None)
    assert part.shape == (2, 16 + FRAMES * 4, 2)
    assert part[:, -1, 0].tolist() == BRANCHES[chosen, 0].tolist()


def test_latent_conditions():
    first = np.random.default_rng(0).standard_normal((1, 4, 2, 3), np.float32)
    repeated = repeated_first_frame(first, 5)
    assert repeated.shape == (1, 4, 5, 2, 3)
    assert (repeated == first[:, :, None]).all()
    keyframes = np.array([0, 3, 4, 8, 9])
    condition = scattered_keyframes(repeated, keyframes, 10)
    assert condition.dtype == np.float32
    assert np.array_equal(condition[:, :, keyframes], repeated)
    assert not np.delete(condition, keyframes, axis=2).any()
