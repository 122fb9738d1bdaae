"""What `bundle.json` says of a preset and of the files of a bundle."""

from importlib.metadata import version
from pathlib import Path

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import (
    Conditioning,
    Dimensions,
    Familiar,
    FileSpec,
    Form,
    GraphSpec,
    SourceSpec,
    StageSpec,
    TensorSpec,
)
from keyvid.export.flops import count_graph_flops
from keyvid.export.liveness import graph_memory
from keyvid.export.source import Source
from keyvid.export.stages import Input, Variant
from keyvid_ref.mel import SAMPLE_RATE
from keyvid_ref.presets import Preset

_MAKERS = ("keyvid", "torch", "onnx", "onnxscript", "onnxruntime", "polygraphy")


def describe_bundle(
    source: Source,
    path: Path,
    stages: dict[str, StageSpec],
    files: dict[str, FileSpec],
    sources: dict[str, SourceSpec],
    licences: dict[str, str],
) -> Bundle:
    """The manifest of a bundle at `path`, which was made from `sources`."""
    preset = source.preset
    return Bundle(
        path=path,
        name=path.name,
        preset=preset.name,
        weights=source.origin.weights,
        makers=makers(),
        dimensions=_dimensions(preset),
        conditioning=Conditioning(
            layout=preset.layout,
            latent_scale=preset.latent_scale,
            latent_sample=preset.latent_sample,
            dynamic_rescale=preset.dynamic_rescale,
        ),
        sampling=preset.sampling,
        qualities=dict(preset.qualities),
        stages=stages,
        files=dict(sorted(files.items())),
        sources=sources or None,
        licences=licences or None,
        familiar=_familiar(source),
    )


def _familiar(source: Source) -> Familiar | None:
    preset = source.preset
    if source.origin.weights == "random" or not preset.prompts:
        return None
    return Familiar(preset.prompts, preset.picture_psnr_db)


def makers() -> dict[str, str]:
    """Versions of the programs that make a bundle."""
    return {maker: version(maker) for maker in _MAKERS}


def describe_graph(
    path: Path,
    variant: Variant,
    form: Form,
    inputs: dict[str, Input],
    outputs: dict[str, tuple[int, ...]],
) -> GraphSpec:
    """The manifest's entry of the graph at `path`; `outputs` gives the shapes."""
    return GraphSpec(
        file=path.name,
        inputs={
            name: TensorSpec("float32" if spec.high is None else "int64", spec.shape)
            for name, spec in inputs.items()
        },
        outputs={name: TensorSpec("float32", shape) for name, shape in outputs.items()},
        memory=graph_memory(path),
        branches=variant.branches,
        temporal=variant.temporal,
        form=form,
        flops=count_graph_flops(path),
    )


def _dimensions(preset: Preset) -> Dimensions:
    return Dimensions(
        height=preset.height,
        width=preset.width,
        frames=preset.frames,
        keyframes=preset.keyframes,
        fps=preset.fps,
        keyframe_fps=preset.keyframe_fps,
        latent_channels=preset.vae.latent_channels,
        latent_height=preset.height // preset.vae.downsampling,
        latent_width=preset.width // preset.vae.downsampling,
        text_tokens=preset.unet.text_tokens,
        image_tokens=preset.unet.image_tokens,
        clip_image_size=preset.clip_vision.image_size,
        frequency_patches=preset.audio.frequency_patches,
        window=preset.unet.window,
        window_stride=preset.unet.window_stride,
        sample_rate=SAMPLE_RATE,
        mel_bins=preset.audio.mel_bins,
        mel_frames=preset.audio.mel_frames,
        localizer_frames=preset.localizer.audio.mel_frames,
        vocabulary=preset.clip_text.vocab_size,
    )
