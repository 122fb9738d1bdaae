"""The released files from the Hugging Face Hub, checked; downloads go on where they stopped.

`hf_hub_download` begins anew in each process, which is too dear for files of ten gigabytes.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get

from keyvid.bundle.files import known_sha256
from keyvid.errors import BundleError, SettingsError
from keyvid.export.source import Source
from keyvid.folders import cache_folder
from keyvid_ref.presets import Preset

# Repository and file; the localizer and ImageBind have to be fetched by hand.
RELEASED = {
    "generator": ("RyanWW/KeyVID", "keyframe_generation/generator_checkpoint.ckpt"),
    "interpolator": ("RyanWW/KeyVID", "interpolation/epoch=3669-step=58720.ckpt"),
    "tokenizer": ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "tokenizer.json"),
}
_HASH = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")  # sha256 of a large file, git's sha1 of another


def open_from_hub(preset: Preset, given: Mapping[str, Path], stages: Sequence[str]) -> Source:
    """The released weights for `stages`: files that are `given`, the others from the Hub.

    Raises:
        SettingsError: a file is neither given nor known.
        BundleError: a download failed or is not what the Hub says.
    """
    needed = Source.released(preset, given).needed(stages)
    missing = [name for name in needed if name not in given]
    for name in missing:
        if name not in RELEASED:
            raise SettingsError(
                f"{needed[name]}: needs --{name} FILE, which is not among the files known on the "
                "Hub; give it, or choose other stages with --stage"
            )
    return Source.released(preset, {**given, **{name: fetch(name) for name in missing}})


def default_folder() -> Path:
    """Where downloads are kept."""
    return cache_folder("released")


def fetch(name: str) -> Path:
    """Path of a file in `RELEASED`, downloaded if it is not there.

    Raises:
        BundleError: it cannot be had, or its checksum is not the one that the Hub states.
    """
    repository, file = RELEASED[name]
    where = f"{repository}/{file}"
    constants.HF_HUB_DISABLE_TELEMETRY = True  # it would look for what runs it and send that
    try:
        metadata = get_hf_file_metadata(hf_hub_url(repository, file), library_name="keyvid")
        if metadata.size is None or not _HASH.fullmatch(metadata.etag or ""):
            raise ValueError("the server states no size and checksum")
        path = default_folder() / f"{metadata.etag}{Path(file).suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _download(metadata.location, metadata.size, path)
    except Exception as error:  # which ones depends on the HTTP client of the Hub's library
        reason = " ".join(str(error).split())[:200]
        raise BundleError(
            f"{where}: cannot be downloaded: {reason}; run the same command again to go on, or "
            f"give --{name} FILE"
        ) from error
    if (found := _hash_like(path, path.stem)) != path.stem:
        path.unlink()
        raise BundleError(
            f"{where}: checksum {found[:12]}..., the Hub says {path.stem[:12]}...; it was removed, "
            "run the same command again to download it anew"
        )
    return path


def _download(url: str, size: int, path: Path) -> None:
    """Download to `path`; after a failure the next call goes on where this one stopped."""
    import fcntl  # where there is none, the command refuses to start

    partial = path.with_suffix(".incomplete")
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: another process does
        if file.tell() > size:
            file.seek(file.truncate(0))
        http_get(
            url,
            file,
            resume_size=file.tell(),
            expected_size=size,
            displayed_filename=path.name,
        )
    os.replace(partial, path)


def _hash_like(path: Path, stated: str) -> str:
    """Hash of a file, of the kind of the one that is `stated`: sha256, or git's sha1."""
    if len(stated) == 64:
        return known_sha256(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
