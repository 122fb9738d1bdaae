"""Presets that export in seconds, and `keyvid-export` with them in a process of its own."""

import sys
from dataclasses import replace
from unittest import mock

from keyvid.export.cli import main
from keyvid.export.stages import STAGES, Stage
from keyvid_ref.presets import PRESETS, Preset

_TINY = PRESETS["tiny"]


def micro_preset() -> Preset:
    """The tiny preset with one level, one layer and a quarter of the pixels."""
    audio = replace(_TINY.audio, width=16, layers=1, heads=2, embed_dim=8)
    return replace(
        _TINY,
        height=32,
        width=48,
        latent_scale=0.5,
        unet=replace(
            _TINY.unet,
            model_channels=16,
            channel_mult=(1,),
            attention_downsampling=(1,),
            head_channels=8,
            context_dim=16,
            norm_groups=4,
            audio_dim=16,
        ),
        vae=replace(_TINY.vae, channels=16, num_res_blocks=1, norm_groups=4),
        clip_text=replace(_TINY.clip_text, width=16, layers=2, heads=2, embed_dim=8),
        clip_vision=replace(
            _TINY.clip_vision, image_size=28, width=16, layers=1, heads=2, embed_dim=8
        ),
        resampler=replace(
            _TINY.resampler,
            width=16,
            depth=1,
            heads=2,
            head_channels=8,
            input_dim=16,
            output_dim=16,
        ),
        audio=audio,
        localizer=replace(_TINY.localizer, audio=replace(audio, mel_frames=198, class_token=False)),
    )


def published_preset() -> Preset:
    """The micro preset as the published one is: released layout, ImageBind's grid of patches."""
    micro = micro_preset()
    audio = replace(micro.audio, stride=(10, 4))
    return replace(micro, name="keyvid-512", layout="released", audio=audio)


def few_variants() -> dict[str, Stage]:
    """U-Nets with a graph per temporal mode, of as many branches as tell them from the frames."""
    stages = {}
    for name in ("generator", "interpolator"):
        variants = [variant for variant in STAGES[name].variants if variant.branches == 2]
        stages[name] = replace(STAGES[name], variants=tuple(variants))
    return stages


if __name__ == "__main__":
    with (
        mock.patch.dict(STAGES, few_variants()),
        mock.patch.dict(PRESETS, {"keyvid-512": published_preset()}),
    ):
        sys.exit(main())
