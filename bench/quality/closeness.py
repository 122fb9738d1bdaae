"""How far clips of two bundles or engines are apart."""

from pathlib import Path
from typing import Protocol

import numpy as np

from bench.quality.picture import psnr
from keyvid.bundle.manifest import Bundle
from keyvid.export import rounding
from keyvid.export.source import Source
from keyvid.runtime.media.picture import load_image
from keyvid.runtime.media.sound import load_sound, to_mono
from keyvid.runtime.pipeline import Pipeline
from keyvid_ref.pipeline import ReferencePipeline
from keyvid_ref.presets import PRESETS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Clip(Protocol):
    """What is compared of a clip: (T, H, W, 3) uint8 frames and (K,) keyframes."""

    @property
    def frames(self) -> np.ndarray: ...

    @property
    def keyframes(self) -> np.ndarray: ...


def runtime_clips(pipelines: tuple[Pipeline, Pipeline], seed: int, name: str) -> tuple[Clip, Clip]:
    """An example by both pipelines."""
    files = EXAMPLES / f"{name}.png", EXAMPLES / f"{name}.wav"
    first, second = (pipeline(*files, prompt=name, seed=seed) for pipeline in pipelines)
    return first, second


def reference_clips(bundle: str, seed: int, name: str) -> tuple[Clip, Clip]:
    """An example by the reference with the weights of `bundle`: rounded to float16, and as it is.

    The networks are rounded, as they are exported; sampling stays in float32.
    """
    manifest = Bundle.load(bundle)
    size = manifest.dimensions
    seconds = size.frames / size.fps
    image = load_image(EXAMPLES / f"{name}.png", size.height, size.width)
    sound = load_sound(EXAMPLES / f"{name}.wav", seconds, 0.0)
    waveform = to_mono(sound, size.sample_rate, seconds)
    preset = PRESETS[manifest.preset]
    clips = []
    for wrap in (rounding.rounded, lambda call: call):
        networks, tokenizer = Source.open(preset, bundle).load()
        for network in vars(networks).values():
            network.forward = wrap(network.forward)
        vae = networks.vae
        vars(vae).update(encode_moments=wrap(vae.encode_moments), decode=wrap(vae.decode))
        pipeline = ReferencePipeline(networks, preset, tokenizer)
        clips.append(pipeline(image, waveform, prompt=name, seed=seed))
    return clips[0], clips[1]


def format_difference(clip: Clip, wanted: Clip) -> str:
    """PSNR in dB of all frames and of the worst, largest difference of a pixel, keyframes."""
    frames = psnr(clip.frames, wanted.frames)
    worst = min(map(psnr, clip.frames, wanted.frames))
    largest = np.abs(clip.frames.astype(int) - wanted.frames).max()
    same = "same" if np.array_equal(clip.keyframes, wanted.keyframes) else "differ"
    return f"{frames:>5.1f} dB {worst:>9.1f} dB {largest:>8}   {same}"
