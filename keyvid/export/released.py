"""What is published of the model: where, under which names, with which checksums and licences."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyvid.errors import SettingsError
from keyvid.export.hub import HubFile
from keyvid_ref.checkpoint import AVSYNC_FILES, AVSYNC_FOLDERS

REPOSITORY = "RyanWW/KeyVID"
REVISION = "d31d787013efaacc722d25f330ec8acb0df5f14c"
_CLIP = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        file: its name, in whatever folder; or the last part of its path.
        repository: on the Hub.
        revision: a commit, or a branch where none is known.
    """

    file: str
    repository: str = REPOSITORY
    revision: str = REVISION


PUBLISHED: Mapping[str, Published] = {
    "generator": Published("generator_checkpoint.ckpt"),
    # Two are there; this is the one that the release's script for generation names.
    "interpolator": Published("epoch=3669-step=58720.ckpt"),
    # The name that the release's training script saves it under.
    "localizer": Published("best_model_version1_with_skip.pth"),
    "tokenizer": Published("tokenizer.json", _CLIP, "main"),
    **{
        network: Published(f"{folder}/{AVSYNC_FILES[-1]}")
        for network, folder in AVSYNC_FOLDERS.items()
    },
}
# Size and beginning of the sha256 of the files of which they are known.
PINNED = {"epoch=1119-step=17920.ckpt": (15_542_982_125, "c917b0a7")}

_IMAGEBIND = "ImageBind: CC-BY-NC-4.0"
_KEYVID = "KeyVID: Apache-2.0"
_DYNAMICRAFTER = "DynamiCrafter, where it began: Apache-2.0 with a clause 10, research only"
_CLIP_LICENCE = "CLIP ViT-H/14 of LAION: MIT"
# Of the weights of each stage.
LICENCES: Mapping[str, str] = {
    "text_encoder": _CLIP_LICENCE,
    "image_encoder": f"{_CLIP_LICENCE}; resampler: {_DYNAMICRAFTER}",
    "audio_encoder": _IMAGEBIND,
    "localizer": f"{_KEYVID}; audio trunk of {_IMAGEBIND}",
    "vae_encoder": "not known; they come with DynamiCrafter's",
    "vae_decoder": "not known; they come with DynamiCrafter's",
    "generator": f"{_KEYVID}; {_DYNAMICRAFTER}",
    "interpolator": f"{_KEYVID}; {_DYNAMICRAFTER}",
}
LICENCE_NOTE = (
    "licences: KeyVID is Apache-2.0, but the checkpoints of generator and localizer carry "
    "ImageBind's weights, CC-BY-NC-4.0, and the U-Nets began as DynamiCrafter's, research only: "
    "the published weights as a whole are for non-commercial use; bundle.json states each stage's"
)
AVSYNC_LICENCE_NOTE = (
    "licences: that of the judge's weights is not known; they are published beside KeyVID's, whose "
    "code is Apache-2.0"
)
_INTERPOLATOR = re.compile(r"epoch=\d+-step=\d+\.ckpt")
_CHECKPOINTS = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")
_NAMED_FILES = 8


def find_file(files: Sequence[HubFile], name: str) -> HubFile | None:
    """The file of that name, with its suffix or without, or of that path; in any folder.

    Raises:
        SettingsError: several of different content have it; or it is not the file that is known
            under that name.
    """
    found = [file for file in files if f"/{file.path}".endswith(f"/{name}")]
    found = found or [file for file in files if file.name.rpartition(".")[0] == name]
    if len({file.checksum for file in found}) > 1:
        paths = ", ".join(file.path for file in found)
        raise SettingsError(f"{name}: {found[0].repository} has several: {paths}; name its path")
    if not found:
        return None
    size, sha256 = PINNED.get(found[0].name, (found[0].bytes, ""))
    if found[0].bytes != size or not found[0].checksum.startswith(sha256):
        raise SettingsError(
            f"{found[0].repository}/{found[0].path}: {found[0].bytes} bytes, sha256 "
            f"{found[0].checksum[:12]}..., expected {size} bytes, {sha256}...; it is not "
            "the published file, choose another --revision"
        )
    return found[0]


def other_interpolators(files: Sequence[HubFile], chosen: HubFile) -> list[str]:
    """Names of the other files that look like an interpolator's checkpoint."""
    names = {file.name for file in files if _INTERPOLATOR.fullmatch(file.name)}
    return sorted(names - {chosen.name})


def list_checkpoints(files: Sequence[HubFile]) -> str:
    """The names of the checkpoints among `files`, in words."""
    paths = [file.path for file in files if file.path.endswith(_CHECKPOINTS)]
    more = f" and {len(paths) - _NAMED_FILES} more" if len(paths) > _NAMED_FILES else ""
    return ", ".join(paths[:_NAMED_FILES]) + more or "no checkpoints"
