"""All networks of a preset, with weights from a folder of safetensors files or at random."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from keyvid_ref.audio_encoder import AudioEncoder
from keyvid_ref.avsync import AVSyncAudio, AVSyncHead, AVSyncVideo
from keyvid_ref.clip import ClipText, ClipVision
from keyvid_ref.localizer import Localizer
from keyvid_ref.presets import Preset
from keyvid_ref.resampler import ImageResampler
from keyvid_ref.tensor_file import write_tensors
from keyvid_ref.unet import UNet
from keyvid_ref.vae import VAE

_NAMED_KEYS = 10  # of those that do not fit

# The module that each weight file holds, by the file's stem.
_BUILDERS: dict[str, Callable[[Preset], nn.Module]] = {
    "text_encoder": lambda preset: ClipText(preset.clip_text),
    "image_encoder": lambda preset: nn.ModuleDict(
        {"clip": ClipVision(preset.clip_vision), "resampler": ImageResampler(preset.resampler)}
    ),
    "audio_encoder": lambda preset: AudioEncoder(preset.audio),
    "localizer": lambda preset: Localizer(preset.localizer),
    "vae": lambda preset: VAE(preset.vae),
    "generator": lambda preset: UNet(preset.unet_config("generator")),
    "interpolator": lambda preset: UNet(preset.unet_config("interpolator")),
    "avsync_audio": lambda _: AVSyncAudio(),
    "avsync_video": lambda _: AVSyncVideo(),
    "avsync_head": lambda _: AVSyncHead(),
}
AVSYNC_NETWORKS = ("avsync_audio", "avsync_video", "avsync_head")
NETWORKS = tuple(name for name in _BUILDERS if name not in AVSYNC_NETWORKS)


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


def build_networks(preset: Preset) -> Networks:
    """Networks of `preset` as torch initialises them."""
    return _gather({name: build_network(preset, name) for name in NETWORKS})


def load_networks(folder: Path, preset: Preset) -> Networks:
    """Networks of `preset` with the weights in `folder`, which may be a bundle.

    Raises:
        ValueError: as for `load_network`.
    """
    return _gather(
        {name: load_network(folder / f"{name}.safetensors", preset) for name in NETWORKS}
    )


def random_networks(preset: Preset, seed: int) -> Networks:
    """Networks of `preset` with the weights of `random_weights`, as float32."""
    return _gather({name: random_network(preset, name, seed) for name in NETWORKS})


def random_network(preset: Preset, name: str, seed: int) -> nn.Module:
    """A network of `preset` with its `random_weights`, as float32."""
    module = outline_network(preset, name)
    module.load_state_dict(random_weights(preset, name, seed), assign=True)
    return module


def build_network(preset: Preset, name: str) -> nn.Module:
    """The network in the weight file `name`, in evaluation mode, as torch initialises it."""
    return _BUILDERS[name](preset).eval()


def outline_network(preset: Preset, name: str) -> nn.Module:
    """The same on the meta device: shapes without numbers, which take no memory."""
    with torch.device("meta"):
        return build_network(preset, name)


def load_network(path: Path, preset: Preset) -> nn.Module:
    """The network that the weight file `path` is named for; float32, in evaluation mode.

    Weights that are float32 in the file are mapped into memory, not read.

    Raises:
        ValueError: as for `read_weights`.
    """
    module = outline_network(preset, path.stem)
    weights = {
        key: value.float() if value.is_floating_point() else value
        for key, value in read_weights(path, preset).items()
    }
    module.load_state_dict(weights, assign=True)
    return module


def read_weights(path: Path, preset: Preset) -> dict[str, Tensor]:
    """Weights of the network that the file `path` is named for, mapped; any float type.

    Raises:
        ValueError: it is damaged, or its keys or shapes are not those of the preset.
    """
    weights = read_tensors(path)
    check_layout(path, weights, outline_network(preset, path.stem).state_dict(), preset)
    return weights


def read_tensors(path: Path) -> dict[str, Tensor]:
    """What a safetensors file holds, mapped.

    Raises:
        ValueError: it is damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot load the weights: {error}") from error
    return tensors


def random_weights(preset: Preset, name: str, seed: int) -> dict[str, Tensor]:
    """float32 weights of a network, none of them zero, so that no path is silent."""
    generator = torch.Generator().manual_seed(crc32(f"{name} {seed}".encode()))
    module = outline_network(preset, name)
    weights = {key: torch.zeros_like(value, device="cpu") for key, value in module.named_buffers()}
    for key in [key for key in weights if key.endswith("running_var")]:
        weights[key] += 1
    for key, value in module.named_parameters():
        weights[key] = _random_parameter(key, value.shape, generator)
    return weights


def save_network(module: nn.Module, path: Path) -> None:
    """Write a network's weights to `path` in half precision, all of it or nothing."""
    write_tensors(path, module.state_dict(), half=True)


def check_layout(
    path: Path, found: Mapping[str, Tensor], want: Mapping[str, Tensor], preset: Preset
) -> None:
    """Refuse weights whose keys or shapes are not those wanted.

    Raises:
        ValueError: lists the first ten missing, unexpected and wrongly shaped keys of `path`.
    """
    shapes = {
        key: (tuple(found[key].shape), tuple(want[key].shape)) for key in want if key in found
    }
    problems = {
        "missing": [key for key in want if key not in found],
        "unexpected": [key for key in found if key not in want],
        "wrongly shaped": [
            f"{key} {got} instead of {needed}"
            for key, (got, needed) in shapes.items()
            if got != needed
        ],
    }
    lists = [f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in problems.items() if keys]
    if lists:
        raise ValueError(
            f"{path}: does not fit preset {preset.name!r}: {'; '.join(lists)}; "
            "choose the preset that the file was written for"
        )


def _first(keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
    return ", ".join(keys[:_NAMED_KEYS]) + more


def _gather(modules: dict[str, Any]) -> Networks:
    image_encoder = modules.pop("image_encoder")
    return Networks(
        clip_vision=image_encoder["clip"], resampler=image_encoder["resampler"], **modules
    )


def _random_parameter(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Matrices of gain 1, norm scales near 1, biases near 0."""
    value = torch.randn(shape, generator=generator)
    if len(shape) > 1:
        return value / sqrt(prod(shape[1:]))
    return 1 + 0.1 * value if name.endswith("weight") else 0.1 * value
