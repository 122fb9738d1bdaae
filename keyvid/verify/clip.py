"""A clip's file and what it says of itself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from keyvid.errors import MediaError
from keyvid.provenance.credentials import MEDIA_TYPES, Credentials
from keyvid.provenance.mark import receipt_in
from keyvid.provenance.receipt import Packets, looks_like_a_receipt
from keyvid.runtime.media import isolation
from keyvid.runtime.media.carrier import digest_without
from keyvid.runtime.media.packets import PICTURES, SOUNDS
from keyvid.runtime.media.sources import open_source, shown

_SECONDS_PER_MB = 4.0  # of computing that decoding a clip may take
_BYTES_PER_BYTE = 2000  # of pictures for one of a file


@dataclass(frozen=True)
class ClipFile:
    """A clip's file, none of whose pictures is decoded until they are asked for.

    Attributes:
        receipt: its text, "" where there is none.
        marks: XMP and tags that may say that a model made it.
        pictures, sounds: their packets; None where there is no sound.
    """

    path: Path
    name: str
    receipt: str
    marks: str
    pictures: Packets
    sounds: Packets | None

    @classmethod
    def read(cls, path: Path) -> "ClipFile":
        """The clip at `path`.

        Raises:
            MediaError: it is none.
        """
        with open_source(path, "clip") as (name, file):
            values = isolation.decode("clip", file, name, _limits(path)).values
        comment, xmp = values["comment"], values["xmp"]
        said = comment if looks_like_a_receipt(comment) else receipt_in(xmp) or ""
        packets = {kind: Packets(**found) for kind, found in values["packets"].items()}
        if PICTURES not in packets:
            raise MediaError(f"{name}: holds no pictures")
        marks = f"{xmp} {values['tag']}"
        return cls(path, name, said.rstrip(), marks, packets[PICTURES], packets.get(SOUNDS))

    def digest(self) -> str:
        """sha256 of the file, in which the receipt counts as spaces."""
        with self._open() as file:
            return digest_without(file, self.receipt)

    def credentials(self) -> Credentials | None:
        """Its content credentials, None for none; of what the file is by its content.

        Raises:
            ProvenanceError: they cannot be read.
        """
        with self._open() as file:
            kind = _kind(file)
            if kind is None:
                return None
            asked = {"media_type": MEDIA_TYPES[kind]}
            found = isolation.decode(
                "clip_credentials", file, self.name, _limits(self.path), **asked
            ).values["found"]
        if found is None:
            return None
        return Credentials(**{**found, "problems": tuple(found["problems"])})

    def frames(self) -> npt.NDArray[np.uint8]:
        """(F, H, W, 3) decoded pictures."""
        return self._decode(whole=True)[0]

    def likeness(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        """(F, cells) of the pictures, and (F,) seconds."""
        return self._decode(whole=False)

    def levels(self, window: float) -> npt.NDArray[np.uint8]:
        """(n,) levels of its sound, see `keyvid.provenance.likeness.sound_levels`."""
        with self._open() as file:
            answer = isolation.decode(
                "clip_levels", file, self.name, _limits(self.path), window=window
            )
        return np.frombuffer(answer.content, np.uint8)

    def _decode(self, whole: bool) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
        with self._open() as file:
            answer = isolation.decode(
                "clip_pictures", file, self.name, _limits(self.path), whole=whole
            )
        values: dict[str, Any] = answer.values
        pixels = np.frombuffer(answer.content, np.uint8).reshape(values["shape"])
        return pixels, np.array(values["times"])

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with open_source(self.path, "clip") as (_, file):
            yield file


def receipt_of_report(path: Path) -> str:
    """The receipt in a report, as a text.

    Raises:
        MediaError: there is none.
    """
    with open_source(path, "report") as (name, file):
        try:
            content = json.loads(file.read())["receipt"]
            if not isinstance(content, dict):
                raise ValueError
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise MediaError(f"{shown(name)}: holds no receipt; give a clip's report") from error
    return json.dumps(content, separators=(",", ":"))


def _kind(file: IO[bytes]) -> str | None:
    """The suffix of `MEDIA_TYPES` that the content has, None for others."""
    file.seek(0)
    start = file.read(12)
    if start[4:8] == b"ftyp":
        return ".mp4"
    if start[:4] == b"RIFF":
        return ".webp"
    return ".gif" if start[:3] == b"GIF" else None


def _limits(path: Path) -> isolation.Limits:
    """More for a large file than for a small one."""
    base, size = isolation.Limits(), path.stat().st_size
    seconds = base.seconds + size / 1e6 * _SECONDS_PER_MB
    return isolation.Limits(seconds, base.memory + size * _BYTES_PER_BYTE)
