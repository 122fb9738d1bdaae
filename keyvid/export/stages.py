"""The stages: which network each one calls, with which inputs, in which variants."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from keyvid.sampling import Temporal
from keyvid_ref.avsync import EMBED_DIM
from keyvid_ref.presets import Preset


@dataclass(frozen=True)
class Variant:
    """What distinguishes one graph of a stage from another; None where it makes no difference.

    `branches` is the number of guidance branches per call, or of clips that a judge is shown,
    `temporal` the temporal attention.
    """

    branches: int | None = None
    temporal: Temporal | None = None

    @property
    def suffix(self) -> str:
        """What the variant adds to the stage's name in the name of its graph."""
        branches = "" if self.branches is None else f".b{self.branches}"
        return branches + ("" if self.temporal is None else f".{self.temporal}")


@dataclass(frozen=True)
class Input:
    """An input of a graph: float32, or int64 in [0, `high`) where that is given."""

    shape: tuple[int, ...]
    high: int | None = None

    def random(self, generator: torch.Generator) -> Tensor:
        """Standard normal numbers, or uniform integers."""
        if self.high is None:
            return torch.randn(self.shape, generator=generator)
        return torch.randint(self.high, self.shape, generator=generator)


@dataclass(frozen=True)
class Stage:
    """One network call that is exported on its own.

    Attributes:
        weights: name of the network, which is also the stem of its weight file.
        call: the module's call: (module, *inputs) to the output.
        inputs: by tensor name, in the order of the call.
        real_inputs: the same of a scene, `JudgedScene` for a judge and else `Scene`.
        output: name of the one output.
        variants: the graphs to export.
    """

    weights: str
    call: Callable[..., Tensor]
    inputs: Callable[[Preset, Variant], dict[str, Input]]
    real_inputs: Callable[[Any, Variant], tuple[Tensor, ...]]
    output: str
    variants: tuple[Variant, ...] = (Variant(),)

    def call_of(self, variant: Variant) -> Callable[..., Tensor]:
        """The module's call as the variant has it: (module, *inputs) to the output."""
        return partial(self.call, temporal=variant.temporal) if variant.temporal else self.call


def _generator_inputs(preset: Preset, variant: Variant) -> dict[str, Input]:
    index = Input((1, preset.keyframes), high=preset.frames)
    inputs = _unet_inputs(preset, variant, preset.keyframes)
    return {**inputs, "frame_index": index}


def _interpolator_inputs(preset: Preset, variant: Variant) -> dict[str, Input]:
    return _unet_inputs(preset, variant, preset.frames)


def _unet_inputs(preset: Preset, variant: Variant, frames: int) -> dict[str, Input]:
    unet, batch = preset.unet, variant.branches or 1
    patches = preset.audio.frequency_patches
    audio_tokens = patches + 1 if preset.layout == "paper" else patches
    channels, height, width = _latent_size(preset)
    return {
        "latent": Input((1, 2 * channels, frames, height, width)),
        "timestep": Input((1,), high=1000),
        "context": Input((batch, unet.text_tokens + frames * unet.image_tokens, unet.context_dim)),
        "audio": Input((batch, frames, audio_tokens, unet.audio_dim)),
        "fps": Input((1,), high=preset.fps + 1),
    }


def _latent_size(preset: Preset) -> tuple[int, int, int]:
    """Channels, height and width of a frame's latent."""
    factor = preset.vae.downsampling
    return preset.vae.latent_channels, preset.height // factor, preset.width // factor


def _mel_input(mel_bins: int, mel_frames: int, batch: int = 1) -> dict[str, Input]:
    return {"mel": Input((batch, 1, mel_bins, mel_frames))}


_BRANCHES = (4, 3, 2, 1)

STAGES = {
    "text_encoder": Stage(
        weights="text_encoder",
        call=lambda text, tokens: text(tokens),
        inputs=lambda preset, _: {
            "tokens": Input((1, preset.clip_text.context_length), high=preset.clip_text.vocab_size)
        },
        real_inputs=lambda scene, _: (scene.tokens,),
        output="text",
    ),
    "image_encoder": Stage(
        weights="image_encoder",
        call=lambda both, pixels: both["resampler"](both["clip"](pixels)),
        inputs=lambda preset, _: {
            "pixels": Input((1, 3, preset.clip_vision.image_size, preset.clip_vision.image_size))
        },
        real_inputs=lambda scene, _: (scene.pixels,),
        output="image_tokens",
    ),
    "audio_encoder": Stage(
        weights="audio_encoder",
        call=lambda encoder, mel: encoder(mel),
        inputs=lambda preset, _: _mel_input(preset.audio.mel_bins, preset.audio.mel_frames),
        real_inputs=lambda scene, _: (scene.mel,),
        output="audio_tokens",
    ),
    "localizer": Stage(
        weights="localizer",
        call=lambda localizer, mel: localizer(mel),
        inputs=lambda preset, _: _mel_input(
            preset.localizer.audio.mel_bins, preset.localizer.audio.mel_frames
        ),
        real_inputs=lambda scene, _: (scene.localizer_mel,),
        output="motion",
    ),
    "vae_encoder": Stage(
        weights="vae",
        call=lambda vae, image: vae.encode_moments(image),
        inputs=lambda preset, _: {"image": Input((1, 3, preset.height, preset.width))},
        real_inputs=lambda scene, _: (scene.image,),
        output="moments",
    ),
    "generator": Stage(
        weights="generator",
        call=lambda unet, *inputs: unet(*inputs),
        inputs=_generator_inputs,
        real_inputs=lambda scene, variant: scene.generator_inputs(variant.branches or 1),
        output="velocity",
        variants=tuple(Variant(branches) for branches in _BRANCHES),
    ),
    "interpolator": Stage(
        weights="interpolator",
        call=lambda unet, *inputs, temporal: unet(*inputs, temporal=temporal),
        inputs=_interpolator_inputs,
        real_inputs=lambda scene, variant: scene.interpolator_inputs(variant.branches or 1),
        output="velocity",
        variants=tuple(
            Variant(branches, temporal)
            for temporal in ("windows", "full")
            for branches in _BRANCHES
        ),
    ),
    "vae_decoder": Stage(
        weights="vae",
        call=lambda vae, latent: vae.decode(latent),
        inputs=lambda preset, _: {"latent": Input((1, *_latent_size(preset)))},
        real_inputs=lambda scene, _: (scene.latent,),
        output="image",
    ),
}

_CLIPS = (Variant(3), Variant(1))  # the three excerpts of a video, or one

# The judge of `keyvid_ref.avsync`. Its parts are stages of their own, so that frames are looked at
# once, with however many sounds they are compared.
AVSYNC_STAGES = {
    "avsync_audio": Stage(
        weights="avsync_audio",
        call=lambda encoder, mel: encoder(mel),
        inputs=lambda preset, variant: _mel_input(
            preset.audio.mel_bins, preset.audio.mel_frames, variant.branches or 1
        ),
        real_inputs=lambda scene, variant: scene.repeated(variant.branches, scene.mel),
        output="audio_embedding",
        variants=_CLIPS,
    ),
    "avsync_video": Stage(
        weights="avsync_video",
        call=lambda encoder, video: encoder(video),
        inputs=lambda preset, variant: {
            "video": Input((variant.branches or 1, 3, preset.frames, preset.height, preset.width))
        },
        real_inputs=lambda scene, variant: scene.repeated(variant.branches, scene.video),
        output="video_embedding",
        variants=_CLIPS,
    ),
    "avsync_head": Stage(
        weights="avsync_head",
        call=lambda head, audio, video: head(audio, video),
        inputs=lambda _, variant: {
            name: Input((variant.branches or 1, EMBED_DIM))
            for name in ("audio_embedding", "video_embedding")
        },
        real_inputs=lambda scene, variant: scene.repeated(variant.branches, *scene.embeddings),
        output="score",
        variants=_CLIPS,
    ),
}


def stages_of(preset: Preset) -> dict[str, Stage]:
    """The stages of a bundle of that preset, by name."""
    return AVSYNC_STAGES if preset.judges else STAGES
