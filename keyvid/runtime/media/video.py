"""A clip out: frames and sound as the file that its name asks for."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, get_args

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from keyvid.containers import CONTAINERS
from keyvid.errors import MediaError, SettingsError
from keyvid.remarks import remark
from keyvid.runtime.media.carrier import png_mark
from keyvid.runtime.media.encoder import Footage, encode
from keyvid.runtime.media.label import Label, encode_labelled
from keyvid.runtime.media.outputs import (
    FOLDER,
    atomic_file,
    atomic_folder,
    check_clip_output,
    clip_kind,
)
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.sources import STANDARD_STREAM, shown

Enlargement = Literal["lanczos", "nearest"]

_SCALES = range(1, 9)
_Write = Callable[[Path, str], str | None]  # path and kind; gives the receipt


def write_video(
    path: str | os.PathLike[str] | IO[bytes],
    frames: Iterable[npt.NDArray[np.uint8]],
    fps: int,
    sound: Sound,
    *,
    scale: int = 1,
    enlargement: Enlargement = "lanczos",
    kind: str = ".mp4",
    label: Label | None = None,
) -> str | None:
    """Write a clip, under its name only when it is whole; equal frames give equal bytes.

    Args:
        path: ends as a key of `keyvid.containers.CONTAINERS`; a name without a suffix or with a /
            at its end for a folder of PNG files (no sound); "-" for an MP4 on standard output; or
            a file that is open for writing bytes.
        frames: (F, H, W, 3) uint8 sRGB, or frame by frame; H and W even.
        sound: -1 to 1, what is beyond is clipped; more than two channels become one, and a rate
            that the codec does not know 48 kHz.
        scale: how many times larger each side becomes.
        kind: what an open file becomes, a key of `CONTAINERS`; a name says it itself.
        label: what the file is to say of its making; None for nothing, not even the mark.
    Returns:
        the receipt that was written, None for none.
    Raises:
        MediaError: the file cannot be written there.
        ProvenanceError: it cannot be signed.
        SettingsError: `scale`, `enlargement` or `kind` is unknown.
    """
    check_scale(scale, enlargement)
    larger = (_enlarged(frame, scale, enlargement) for frame in frames)
    footage = Footage(larger, fps, sound, (scale, enlargement))

    def write(path: Path, kind: str) -> str | None:
        if label:
            return encode_labelled(path, kind, footage, label)
        encode(path, kind, footage)
        return None

    if not isinstance(path, str | os.PathLike):
        if kind not in CONTAINERS:
            raise SettingsError(f"kind {kind!r:.20}: want one of {', '.join(CONTAINERS)}")
        return _write_to(path, kind, write)
    check_clip_output(path)
    kind = clip_kind(path)
    if kind == STANDARD_STREAM:
        return _write_to_stdout(write)
    if kind == FOLDER:
        _write_pictures(Path(path), larger, is_marked=label is not None)
        return None
    replaces = os.path.exists(path)
    with atomic_file(Path(path)) as temporary:
        receipt = write(temporary, kind)
    if replaces:
        remark(f"{shown(path)}: took the place of an older file")
    if not CONTAINERS[kind].sound_codec:
        _say_that_it_is_silent(path)
    return receipt


def _write_pictures(
    path: Path, frames: Iterable[npt.NDArray[np.uint8]], *, is_marked: bool
) -> None:
    """A folder of PNG files, each with the mark of made media where that is wanted."""
    with atomic_folder(path) as folder:
        for index, frame in enumerate(frames):
            mark = png_mark() if is_marked else None
            Image.fromarray(frame).save(folder / f"{index:05d}.png", pnginfo=mark)
    _say_that_it_is_silent(path)


def _say_that_it_is_silent(path: str | os.PathLike[str]) -> None:
    remark(f"{shown(path)}: holds no sound, as this kind of file has none")


def check_scale(scale: int, enlargement: str = "lanczos") -> None:
    """Refuse an enlargement that `write_video` does not know."""
    if isinstance(scale, bool) or scale not in _SCALES:
        raise SettingsError(f"scale {scale}: want a whole number from 1 to {_SCALES[-1]}")
    if enlargement not in get_args(Enlargement):
        known = ", ".join(get_args(Enlargement))
        raise SettingsError(f"enlargement {enlargement!r}: want one of {known}")


def _enlarged(
    frame: npt.NDArray[np.uint8], scale: int, enlargement: Enlargement
) -> npt.NDArray[np.uint8]:
    if scale == 1:
        return frame
    size = (frame.shape[1] * scale, frame.shape[0] * scale)
    return np.array(Image.fromarray(frame).resize(size, Image.Resampling[enlargement.upper()]))


def _write_to_stdout(write: _Write) -> str | None:
    try:
        receipt = _write_to(sys.stdout.buffer, ".mp4", write)
        sys.stdout.buffer.flush()
    except (OSError, av.error.FFmpegError) as error:
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is left there fails no more
        raise MediaError(f"-: cannot be written: {error.strerror or error}") from error
    return receipt


def _write_to(file: IO[bytes], kind: str, write: _Write) -> str | None:
    """Write to an open file; some containers are written from both ends, so one is made first."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / f"clip{kind}"
        receipt = write(whole, kind)
        with open(whole, "rb") as made:
            shutil.copyfileobj(made, file)
    return receipt
