"""A preset that exports in seconds, with random weights, and its bundle."""

from dataclasses import replace

import pytest

from keyvid.export.build import build_bundle
from keyvid.export.source import Source
from keyvid.export.stages import STAGES
from keyvid_ref.presets import PRESETS

_TINY = PRESETS["tiny"]


@pytest.fixture(scope="session")
def micro():
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


@pytest.fixture(scope="session")
def source(micro):
    """Random weights of the micro preset."""
    return Source.random(micro, 0)


@pytest.fixture(scope="session", autouse=True)
def few_variants():
    """One graph per U-Net, of as many branches as tell them from the frames: tracing is slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("generator", "interpolator"):
            stage = STAGES[name]
            chosen = [variant for variant in stage.variants if variant.branches == 2][:1]
            patch.setitem(STAGES, name, replace(stage, variants=tuple(chosen)))
        yield


@pytest.fixture(scope="session")
def exported(source, few_variants, tmp_path_factory):
    """Every stage of the micro preset, verified: folder of the bundle and the reports."""
    folder = tmp_path_factory.mktemp("bundles") / "micro"
    return folder, build_bundle(source, folder)


@pytest.fixture(scope="session")
def exported_half(source, few_variants, tmp_path_factory):
    """Every stage of the micro preset in half precision, not verified: folder of the bundle."""
    folder = tmp_path_factory.mktemp("bundles") / "half"
    build_bundle(source, folder, precision="fp16", verify=False)
    return folder
