"""All networks of a preset, with weights from a folder of safetensors files or at random."""

import os
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from keyvid_ref.audio_encoder import AudioEncoder
from keyvid_ref.clip import ClipText, ClipVision
from keyvid_ref.localizer import Localizer
from keyvid_ref.presets import Preset
from keyvid_ref.resampler import ImageResampler
from keyvid_ref.unet import UNet
from keyvid_ref.vae import VAE


@dataclass(frozen=True)
class Networks:
    """The networks of one preset, float32 and in evaluation mode."""

    text_encoder: ClipText
    clip_vision: ClipVision
    resampler: ImageResampler
    audio_encoder: AudioEncoder
    localizer: Localizer
    vae: VAE
    generator: UNet
    interpolator: UNet

    def files(self) -> dict[str, nn.Module]:
        """The module that each weight file holds, by the file's stem."""
        image_encoder = nn.ModuleDict({"clip": self.clip_vision, "resampler": self.resampler})
        return {
            "text_encoder": self.text_encoder,
            "image_encoder": image_encoder,
            "audio_encoder": self.audio_encoder,
            "localizer": self.localizer,
            "vae": self.vae,
            "generator": self.generator,
            "interpolator": self.interpolator,
        }


def load_networks(folder: Path, preset: Preset) -> Networks:
    """Networks of `preset` with the weights in `folder`, which may be a bundle.

    Args:
        folder: one safetensors file for each of `Networks.files`, any float type.
    Raises:
        ValueError: a file's keys or shapes are not those of the preset.
    """
    networks = build_networks(preset)
    for name, module in networks.files().items():
        path = folder / f"{name}.safetensors"
        try:
            module.load_state_dict(load_file(path))
        except RuntimeError as error:  # lists the missing and unexpected keys and the shapes
            raise ValueError(
                f"{path}: does not fit preset {preset.name!r}; "
                f"choose the preset that the file was written for: {error}"
            ) from error
    return networks


def random_networks(preset: Preset, seed: int) -> Networks:
    """Networks of `preset` with random weights, none of them zero, so that no path is silent."""
    networks = build_networks(preset)
    generator = torch.Generator().manual_seed(seed)
    for module in networks.files().values():
        for name, parameter in module.named_parameters():
            parameter.data.copy_(_random_parameter(name, parameter.shape, generator))
    return networks


def save_network(module: nn.Module, path: Path) -> None:
    """Write a network's weights to `path` in half precision, all of it or nothing."""
    weights = {k: v.half().contiguous().cpu() for k, v in module.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(weights, partial)
    os.replace(partial, path)


def build_networks(preset: Preset) -> Networks:
    """Networks of `preset` as torch initialises them."""
    networks = Networks(
        text_encoder=ClipText(preset.clip_text),
        clip_vision=ClipVision(preset.clip_vision),
        resampler=ImageResampler(preset.resampler),
        audio_encoder=AudioEncoder(preset.audio),
        localizer=Localizer(preset.localizer),
        vae=VAE(preset.vae),
        generator=UNet(preset.unet_config("generator")),
        interpolator=UNet(preset.unet_config("interpolator", preset.sampling.temporal)),
    )
    for module in networks.files().values():
        module.eval()
    return networks


def _random_parameter(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Matrices of gain 1, norm scales near 1, biases near 0."""
    value = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return value / sqrt(prod(shape[1:]))
    return 1 + 0.1 * value if name.endswith("weight") else 0.1 * value
