from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from keyvid.errors import SettingsError
from keyvid.sampling import Settings, resolve
from keyvid_ref.keyframes import select_keyframes, uniform_keyframes
from keyvid_ref.pipeline import ReferencePipeline, draw_windowed_noise, guide
from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import random_networks
from keyvid_ref.world.text import make_tokenizer

_TINY = replace(PRESETS["tiny"], height=64, width=96)  # in small: nothing here looks at it
_CHANNELS = _TINY.vae.latent_channels
_KEYFRAMES = np.array([0, 3, 8, 11, 15, 20, 25, 30, 33, 38, 44, 47])


@pytest.fixture(scope="module")
def networks():
    return random_networks(_TINY, seed=0)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(_TINY.clip_text.vocab_size, _TINY.clip_text.context_length)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def waveform():
    return np.random.default_rng(1).uniform(-0.5, 0.5, 32_000).astype(np.float32)


@dataclass
class SpyUNet:
    """Stands in for a U-Net: keeps its inputs, predicts a velocity that differs by branch."""

    config: object

    def __post_init__(self):
        self.calls = []

    def __call__(self, latent, timestep, context, audio, fps, frame_index=None, temporal=None):
        self.calls.append(
            SimpleNamespace(
                latent=latent,
                timestep=timestep,
                context=context,
                audio=audio,
                fps=fps,
                frame_index=frame_index,
                temporal=temporal,
            )
        )
        noisy = latent.chunk(2, 1)[0]
        return noisy * torch.linspace(0.5, 0.8, 4).reshape(4, 1, 1, 1, 1)


@pytest.fixture
def spied(networks):
    """The networks of the tiny preset with both U-Nets replaced by spies."""
    return replace(
        networks,
        generator=SpyUNet(networks.generator.config),
        interpolator=SpyUNet(networks.interpolator.config),
    )


def _short(**changes):
    return resolve(Settings(steps=2, **changes), _TINY.sampling)


@pytest.mark.parametrize(
    ("layout", "solver", "temporal"),
    [("paper", "ddim", "windows"), ("released", "dpm", "full")],
)
def test_whole_chain_runs(networks, tokenizer, image, waveform, layout, solver, temporal):
    pipeline = ReferencePipeline(networks, replace(_TINY, layout=layout), tokenizer)
    sampling = resolve(Settings(steps=1, solver=solver, temporal=temporal), _TINY.sampling)
    clip = pipeline(image, waveform, prompt="drum", sampling=sampling)
    assert clip.frames.shape == (48, 64, 96, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.latents.shape == (1, _CHANNELS, 48, 8, 12)
    assert np.isfinite(clip.latents).all()
    np.testing.assert_array_equal(clip.keyframes, select_keyframes(clip.motion, 12))


def test_a_clip_is_a_function_of_its_seed(spied, tokenizer, image, waveform):
    pipeline = ReferencePipeline(spied, _TINY, tokenizer)
    first, again, other = (
        pipeline(image, waveform, seed=seed, sampling=_short()) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.frames != other.frames).mean() > 0.1


def test_generator_sees_the_first_frame_and_the_keyframe_indices(spied, tokenizer, image, waveform):
    ReferencePipeline(spied, _TINY, tokenizer)(
        image, waveform, prompt="drum", sampling=_short(), keyframes=_KEYFRAMES
    )
    call = spied.generator.calls[0]
    picture = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    first_frame = spied.vae.encode_moments(picture)[:, :_CHANNELS]
    condition = call.latent[:, _CHANNELS:]
    torch.testing.assert_close(condition, first_frame[:, :, None].expand_as(condition))
    np.testing.assert_array_equal(call.frame_index, np.tile(_KEYFRAMES, (4, 1)))
    assert call.timestep.tolist() == [999] * 4
    assert call.fps.tolist() == [6] * 4
    assert call.audio.shape == (4, 12, 9, 96)
    assert call.context.shape == (4, 16 + 12 * 4, 128)


def test_branches_add_image_then_text_then_audio(spied, tokenizer, image, waveform):
    ReferencePipeline(spied, _TINY, tokenizer)(
        image, waveform, prompt="drum", sampling=_short(), keyframes=_KEYFRAMES
    )
    for call in (spied.generator.calls[0], spied.interpolator.calls[0]):
        text, picture = call.context.split([16, call.context.shape[1] - 16], 1)
        for tokens, first_with in ((picture, 1), (text, 2), (call.audio, 3)):
            without, with_it = tokens[:first_with], tokens[first_with:]
            torch.testing.assert_close(without, tokens[:1].expand_as(without))
            torch.testing.assert_close(with_it, tokens[-1:].expand_as(with_it))
            assert not torch.allclose(tokens[0], tokens[-1], atol=1e-2)


def test_interpolator_sees_the_keyframes_and_nothing_else(spied, tokenizer, image, waveform):
    clip = ReferencePipeline(spied, _TINY, tokenizer)(
        image, waveform, sampling=_short(), keyframes=_KEYFRAMES
    )
    call = spied.interpolator.calls[0]
    condition = call.latent[0, _CHANNELS:]
    shown = condition.abs().amax((0, 2, 3)) > 0
    assert shown.nonzero()[:, 0].tolist() == _KEYFRAMES.tolist()
    assert call.fps.tolist() == [24] * 4
    assert call.frame_index is None
    assert call.temporal == "windows"
    np.testing.assert_array_equal(clip.keyframes, _KEYFRAMES)


def test_released_layout_reaches_both_networks(spied, tokenizer, image, waveform):
    for layout, num_tokens in (("paper", 9), ("released", 8)):
        pipeline = ReferencePipeline(spied, replace(_TINY, layout=layout), tokenizer)
        pipeline(image, waveform, sampling=_short())
        assert spied.generator.calls[-1].audio.shape == (4, 12, num_tokens, 96)
        assert spied.interpolator.calls[-1].audio.shape == (4, 48, num_tokens, 96)


def test_sampled_latent_is_scaled_and_near_the_mean(spied, tokenizer, image):
    picture = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    mean, log_variance = spied.vae.encode_moments(picture).chunk(2, 1)
    preset = replace(_TINY, latent_sample=True, latent_scale=0.5)
    pipeline = ReferencePipeline(spied, preset, tokenizer)
    latent = pipeline.encode_image(picture, np.random.Generator(np.random.PCG64(2)))
    noise = np.random.Generator(np.random.PCG64(2)).standard_normal(mean.shape, dtype=np.float32)
    expected = 0.5 * (mean + torch.exp(log_variance / 2) * torch.from_numpy(noise))
    torch.testing.assert_close(latent, expected)


def test_noise_is_drawn_in_the_documented_order(spied, tokenizer, image, waveform):
    preset = replace(_TINY, latent_sample=True)
    sampling = _short(solver="ddim", temporal="full")
    ReferencePipeline(spied, preset, tokenizer)(image, waveform, seed=5, sampling=sampling)
    rng = np.random.Generator(np.random.PCG64(5))

    def draw(num_frames):
        return rng.standard_normal((1, _CHANNELS, num_frames, 8, 12), dtype=np.float32)

    rng.standard_normal((1, _CHANNELS, 8, 12), dtype=np.float32)  # the image's posterior
    keyframe_noise = draw(12)
    for _ in range(sampling.generator.steps):
        draw(12)
    noise = draw(48)
    np.testing.assert_array_equal(spied.generator.calls[0].latent[:1, :_CHANNELS], keyframe_noise)
    np.testing.assert_array_equal(spied.interpolator.calls[0].latent[:1, :_CHANNELS], noise)


def test_silence_and_uniform_keyframes(spied, tokenizer, image):
    pipeline = ReferencePipeline(spied, _TINY, tokenizer)
    uniform = uniform_keyframes(48, 12)
    silence = np.zeros(32_000, np.float32)
    clip = pipeline(image, silence, sampling=_short(), keyframes=uniform)
    assert np.isfinite(clip.latents).all()
    assert clip.keyframes.tolist() == list(range(0, 48, 4))


def test_guidance_of_one_is_the_full_condition(fill):
    velocities = torch.from_numpy(fill.tensor("velocities", (4, 2, 3, 4, 5)))
    torch.testing.assert_close(guide(velocities, (1, 1, 1), 0.0), velocities[3:])
    torch.testing.assert_close(guide(velocities, (0, 0, 0), 0.0), velocities[:1])


def test_full_rescale_restores_the_deviation_of_the_full_condition(fill):
    velocities = torch.from_numpy(fill.tensor("velocities", (4, 2, 3, 4, 5)))
    guided = guide(velocities, (2.0, 7.5, 9.0), 1.0)
    torch.testing.assert_close(guided.std(), velocities[3].std())


def test_windowed_noise_shuffles_earlier_blocks():
    rng = np.random.Generator(np.random.PCG64(0))
    noise = draw_windowed_noise(rng, torch.Size((1, 4, 48, 5, 6)), 12, 6)
    assert noise.shape == (1, 4, 48, 5, 6)
    frames = noise[0].transpose(0, 1).flatten(1)
    for start in range(12, 48, 6):
        block, earlier = frames[start : start + 6], frames[start - 12 : start - 6]
        same = (block[:, None] == earlier[None]).all(-1)
        assert same.sum(0).tolist() == [1] * 6
        assert same.sum(1).tolist() == [1] * 6
    # 12 distinct frames of 120 values: the deviation of 1440 samples is within 0.06 (3 sigma) of 1.
    assert abs(noise.std().item() - 1) < 0.06


def test_an_unknown_solver_is_refused_at_once(tokenizer, image, waveform):
    pipeline = ReferencePipeline(None, _TINY, tokenizer)
    sampling = replace(_TINY.sampling, generator=replace(_TINY.sampling.generator, solver="euler"))
    with pytest.raises(SettingsError, match=r"^solver euler: want one of ddim, dpm$"):
        pipeline(image, waveform, sampling=sampling)
