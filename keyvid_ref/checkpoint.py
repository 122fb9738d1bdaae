"""The released checkpoints: which networks they hold, under which names."""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from keyvid_ref.audio_encoder import resize_position_table
from keyvid_ref.presets import Preset
from keyvid_ref.weights import AVSYNC_NETWORKS, check_layout, outline_network, read_tensors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Keys of `checkpoint` that begin with `prefix`; the network has `target` in its place."""

    checkpoint: str
    prefix: str
    target: str = ""


# Network -> where its weights are. The interpolator's checkpoint repeats what both U-Nets share,
# which the generator's is taken for; `warn_of_copies` tells where it is not the same.
_PARTS = {
    "text_encoder": (Part("generator", "cond_stage_model.model."),),
    "image_encoder": (
        Part("generator", "embedder.model.visual.", "clip."),
        Part("generator", "image_proj_model.", "resampler."),
    ),
    "audio_encoder": (Part("imagebind", ""),),
    "localizer": (Part("localizer", ""),),
    "vae": (Part("generator", "first_stage_model."),),
    "generator": (Part("generator", "model.diffusion_model."),),
    "interpolator": (Part("interpolator", "model.diffusion_model."),),
    **{network: (Part(network, ""),) for network in AVSYNC_NETWORKS},
}
# Network -> its folder in the release of the judge, and the files that may lie there.
AVSYNC_FOLDERS = {
    "avsync_audio": "audio_encoder",
    "avsync_video": "video_encoder",
    "avsync_head": "head",
}
AVSYNC_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
# ImageBind's other senses, and what OpenCLIP needs for its contrastive loss and its mask.
_UNUSED = re.compile(r"modality_\w+\.(?!audio\.)|^(logit_scale|attn_mask)$")
_POSITIONS = "modality_preprocessors.audio.pos_embedding_helper.pos_embed"
_STORED_GRID = (12, 19)  # frequency and time patches of ImageBind's own position table


def find_avsync(folder: Path) -> dict[str, Path]:
    """The checkpoints of the judge in its released folder, as for `read_checkpoints`."""
    found = {}
    for network, name in AVSYNC_FOLDERS.items():
        paths = [folder / name / file for file in AVSYNC_FILES]
        found[network] = next((path for path in paths if path.is_file()), paths[-1])
    return found


def checkpoints_of(network: str, checkpoints: Collection[str]) -> set[str]:
    """Names of the checkpoints that a network is read from, given those that there are.

    Without "imagebind", the audio encoder is the generator's copy of it.
    """
    return {part.checkpoint for part in _parts(network, checkpoints)}


def read_checkpoints(
    preset: Preset, network: str, checkpoints: Mapping[str, Path]
) -> dict[str, Tensor]:
    """Weights of a network under its own names, mapped from the files.

    Args:
        checkpoints: the released files by "generator", "interpolator", "imagebind", "localizer",
            or for a network of the judge by its name.
    Raises:
        ValueError: a file cannot be read, or does not hold the network of this preset.
    """
    outline = outline_network(preset, network).state_dict()
    weights: dict[str, Tensor] = {}
    for part in _parts(network, checkpoints):
        path = checkpoints[part.checkpoint]
        found = {
            part.target + key.removeprefix(part.prefix): value
            for key, value in _load(path).items()
            if key.startswith(part.prefix) and not _UNUSED.search(key.removeprefix(part.prefix))
        }
        if network == "audio_encoder":
            _resize_positions(found, preset)
        want = {key: value for key, value in outline.items() if key.startswith(part.target)}
        check_layout(path, found, want, preset)
        weights |= found
    return weights


def warn_of_copies(checkpoints: Mapping[str, Path]) -> None:
    """Log a warning if the interpolator's checkpoint has other encoders than the generator's."""
    if not {"generator", "interpolator"} <= checkpoints.keys():
        return
    shared = tuple(
        part.prefix
        for network in ("text_encoder", "image_encoder", "audio_encoder", "vae")
        for part in _parts(network, checkpoints)
        if part.checkpoint == "generator"
    )
    used, other = (_load(checkpoints[name]) for name in ("generator", "interpolator"))
    copies = [key for key in used if key in other and key.startswith(shared)]
    differing = [key for key in copies if not torch.equal(used[key], other[key])]
    if differing:
        log.warning(
            "%s: %d of the %d tensors that both U-Nets share are not those of %s, such as %s; "
            "the latter are used for both",
            checkpoints["interpolator"],
            len(differing),
            len(copies),
            checkpoints["generator"],
            differing[0],
        )


def _parts(network: str, checkpoints: Collection[str]) -> tuple[Part, ...]:
    if network == "audio_encoder" and "imagebind" not in checkpoints:
        return (Part("generator", "imagebind_model."),)
    return _PARTS[network]


def _load(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint; its pickle may name tensors and plain containers only."""
    if path.suffix == ".safetensors":
        return read_tensors(path)
    try:
        content: Any = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|Unsupported \w+ ([\w.]+)", str(error))
        what = f" such as {found[1] or found[2]}" if found else ""
        raise ValueError(
            f"{path}: refused, it holds more than tensors{what} and nothing of it was run; "
            "download it again from where it was published, or save its state dict alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read, it is cut off or not of torch's zip format; download it again"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds no state dict; name a released checkpoint")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _resize_positions(weights: dict[str, Tensor], preset: Preset) -> None:
    """Resize ImageBind's position table to the grid of `preset`, as the release does."""
    stored, config = weights.get(_POSITIONS), preset.audio
    frequencies, times = _STORED_GRID
    if stored is not None and stored.shape == (1, 1 + frequencies * times, config.width):
        grid = (config.frequency_patches, config.time_patches)
        weights[_POSITIONS] = resize_position_table(stored.float(), _STORED_GRID, grid)
