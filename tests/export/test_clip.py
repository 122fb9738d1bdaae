"""A bundle that was just exported makes the reference's clip, in one window and across a seam."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from keyvid import Pipeline, Settings
from keyvid.sampling import UNetSettings
from keyvid_ref import pipeline as reference_module
from keyvid_ref.mel import log_mel
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.weights import load_networks
from keyvid_ref.world.text import make_tokenizer

SEED = 5
OVERLAP = 4
KEYFRAMES = np.arange(0, 48, 4)


@pytest.fixture(scope="module")
def picture(micro):
    shade = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    return np.kron(shade, np.ones((micro.height // 4, micro.width // 6, 1), np.uint8))


@pytest.fixture(scope="module")
def waveform(micro):
    """Of 92 frames, two windows: bursts of noise."""
    rng = np.random.default_rng(1)
    loudness = np.repeat(rng.uniform(0, 0.5, 23), 2667)[: round(92 * 16_000 / 24)]
    return (loudness * rng.standard_normal(len(loudness))).astype(np.float32).clip(-1, 1)


@pytest.fixture(scope="module")
def reference(exported, micro):
    """The reference with the bundle's weights."""
    tokenizer = make_tokenizer(micro.clip_text.vocab_size, micro.clip_text.context_length)
    return ReferencePipeline(load_networks(exported[0], micro), micro, tokenizer)


@pytest.fixture
def animate(exported, picture):
    """`animate(waveform, engine, **options)`: the runtime's clip."""

    def run(waveform, engine="onnxruntime", **options):
        with Pipeline.load(exported[0], engine, threads=1) as pipeline:
            return pipeline(picture, (waveform, 16_000), seed=SEED, **options)

    return run


def psnr(frames, others):
    error = np.mean((frames.astype(np.float64) - others) ** 2)
    return 10 * math.log10(255**2 / error) if error else math.inf


@pytest.mark.parametrize(
    ("engine", "settings", "options"),
    [
        ("onnxruntime", Settings(steps=2, solver="ddim", temporal="windows"), {}),
        (
            "openvino",
            Settings(steps=2, solver="dpm", temporal="full"),
            {"prompt": "hammer", "keyframes": "0,1,5,9,10,11,20,30,31,40,46,47"},
        ),
        (  # two branches in the first step, one in the others
            "openvino",
            Settings(steps=3, guidance_until=700, interpolator=UNetSettings(guidance_audio=4.0)),
            {"keyframes": "uniform"},
        ),
        (  # four active branches, two at a time
            "onnxruntime",
            Settings(steps=1, guidance_image=2.0, guidance_text=3.0, cfg_batch=2),
            {"prompt": "drum"},
        ),
    ],
)
def test_a_clip_is_the_references(animate, reference, picture, waveform, engine, settings, options):
    """As `tests/parity/test_clip.py` has it for the packaged weights, at its size."""
    heard = waveform[:32_000]
    clip = animate(heard, engine, settings=settings, **options)
    want = reference(
        picture,
        heard,
        prompt=clip.prompt,
        seed=SEED,
        sampling=clip.settings,
        keyframes=clip.keyframes if "keyframes" in options else None,
    )
    assert np.array_equal(clip.keyframes, want.keyframes)
    assert np.abs(clip.motion - want.motion).max() < 1e-4
    assert psnr(clip.frames, want.frames) >= 45


class Continued:
    """A U-Net that continues frames which are known: it sees them as noisy as the others.

    Args:
        latents: (1, C, n, h, w) of the known frames, the first of the call.
    """

    def __init__(self, unet, latents, schedule):
        self.unet, self.latents, self.schedule = unet, latents, schedule
        self.config = unet.config
        self.noise = None

    def __call__(self, latent, timestep, *rest, **inputs):
        _, channels, count, *_ = self.latents.shape
        if self.noise is None:  # at timestep 999 there is nothing else
            self.noise = latent[:1, :channels, :count].clone()
        level = self.schedule.alphas_cumprod[timestep[0]]
        signal = level.sqrt() * self.schedule.rescale[timestep[0]]
        latent = latent.clone()
        latent[:, :channels, :count] = signal * self.latents + (1 - level).sqrt() * self.noise
        return self.unet(latent, timestep, *rest, **inputs)


def two_windows(reference, picture, waveform, sampling, monkeypatch):
    """92 frames: window two begins with the last four latents of window one, as they are."""
    pictures = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
    keyframes = torch.from_numpy(KEYFRAMES)
    first_rng, second_rng = (np.random.Generator(np.random.PCG64(s)) for s in (SEED, [SEED, 1]))

    def conditions(start):
        first = round(start * 16_000 / 24)
        heard = torch.from_numpy(waveform[first : first + 32_000])
        return reference.encode_conditions(pictures, log_mel(heard), "drum")

    told = conditions(0)
    first_frame = reference.encode_image(pictures, first_rng)
    of_keyframes = reference.generate_keyframes(first_frame, keyframes, told, sampling, first_rng)
    noises = []
    draw = reference_module.draw_windowed_noise
    with monkeypatch.context() as patch:
        patch.setattr(
            reference_module,
            "draw_windowed_noise",
            lambda *args: noises.append(draw(*args)) or noises[0],
        )
        before = reference.interpolate(of_keyframes, keyframes, told, sampling, first_rng)
    shared = before[:, :, -OVERLAP:]

    def go_on(rng, _, window, stride):
        noise = noises[0]
        while noise.shape[2] < 44 + 48:
            start = noise.shape[2] - window
            order = start + torch.from_numpy(rng.permutation(stride))
            noise = torch.cat([noise, noise[:, :, order]], 2)
        return noise[:, :, 44 : 44 + 48]

    told, networks = conditions(44), reference.networks
    continued = ReferencePipeline(
        replace(
            networks,
            generator=Continued(networks.generator, shared[:, :, :1], reference.schedule),
            interpolator=Continued(networks.interpolator, shared, reference.schedule),
        ),
        reference.preset,
        reference.tokenizer,
    )
    of_keyframes = continued.generate_keyframes(first_frame, keyframes, told, sampling, second_rng)
    shown = torch.cat([shared, of_keyframes[:, :, 1:]], 2)  # frames 0 to 3, then 4, 8, ...
    places = torch.cat([torch.arange(OVERLAP), keyframes[1:]])
    with monkeypatch.context() as patch:
        patch.setattr(reference_module, "draw_windowed_noise", go_on)
        after = continued.interpolate(shown, places, told, sampling, second_rng)
    return np.concatenate([reference.decode(x) for x in (before, after[:, :, OVERLAP:])])


@torch.no_grad()
@pytest.mark.parametrize(
    ("solver", "steps", "guidance"),
    [
        ("ddim", 2, {}),
        ("dpm", 3, {"guidance_audio": 2.0}),
        ("ddim", 2, {"guidance_image": 1.5, "guidance_text": 2.5, "guidance_audio": 4.0}),
    ],
)
def test_a_clip_across_a_seam_is_the_references(
    animate, reference, picture, waveform, monkeypatch, solver, steps, guidance
):
    settings = Settings(solver=solver, steps=steps, **guidance)
    clip = animate(waveform, prompt="drum", settings=settings, keyframes="uniform", length=92 / 24)
    want = two_windows(reference, picture, waveform, clip.settings, monkeypatch)
    assert clip.keyframes.tolist() == list(range(0, 92, 4))
    assert clip.frames.shape == want.shape == (92, *picture.shape)
    # Only grey levels that round the other way differ: float32 sums in another order.
    assert psnr(clip.frames[:48], want[:48]) >= 45
    assert psnr(clip.frames[48:], want[48:]) >= 45
