"""A clip's file with its label: the mark of made media, a receipt, a signature."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from keyvid.containers import CONTAINERS
from keyvid.file_safety import temporary_file
from keyvid.provenance.credentials import Signer
from keyvid.provenance.likeness import (
    CELLS,
    Likeness,
    pack,
    picture_likeness,
    picture_numbers,
    sound_likeness,
)
from keyvid.provenance.receipt import PACKET_BYTES, Making, Packets, Writing, write_receipt
from keyvid.runtime.media.carrier import (
    HOLD_RECEIPTS,
    add_mark,
    digest_without,
    fill_in,
    placeholder,
    tags_of,
)
from keyvid.runtime.media.encoder import Footage, encode, written_rate
from keyvid.runtime.media.packets import PICTURES, SOUNDS, packet_digests
from keyvid.runtime.media.sound import Sound

_MORE_PACKETS = 8  # of sound, for the codecs' lead and what ends them
_NO_DIGEST = 64 * "0"


@dataclass(frozen=True)
class Label:
    """What a file is to say of its clip, beside the mark.

    Attributes:
        making: how the clip came about.
        picture: (H, W, 3) uint8 that it was made of.
        has_receipt: whether the file says `making`.
        signer: who signs it, None for nobody.
    """

    making: Making
    picture: npt.NDArray[np.uint8]
    has_receipt: bool = True
    signer: Signer | None = None


@dataclass
class _Look:
    """Keeps the likeness of frames that pass."""

    num_frames: int
    seen: list[Likeness] = field(default_factory=list)

    def watch(self, frames: Iterable[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
        wanted = {*picture_numbers(self.num_frames).tolist()}
        for number, frame in enumerate(frames):
            if number in wanted:
                self.seen.append(picture_likeness(frame))
            yield frame


def encode_labelled(path: Path, kind: str, footage: Footage, label: Label) -> str | None:
    """As `encode`, with a label; gives the receipt that was written, None for none.

    Raises:
        MediaError, OSError: as `encode`.
        ProvenanceError: it cannot be signed.
    """
    receipt = None
    if not label.has_receipt or kind not in HOLD_RECEIPTS:
        encode(path, kind, footage, tags_of(kind, None))
        add_mark(path, kind, None)
    else:
        receipt = _encode_with_receipt(path, kind, footage, label.making)
    if label.signer:
        with temporary_file(path.parent) as (_, signed):
            label.signer.sign(path, signed, kind, receipt, label.picture)
            signed.replace(path)
    return receipt


def _encode_with_receipt(path: Path, kind: str, footage: Footage, making: Making) -> str:
    sound, seconds = footage.sound, making.num_frames / footage.fps
    loudness = pack(sound_likeness(sound.samples, sound.rate, seconds))

    def writing(pictures: Packets, sounds: Packets | None, look: str, file: str) -> Writing:
        return Writing(kind, *footage.enlarged, pictures, sounds, look, loudness, file)

    longest = writing(*_longest(kind, making.num_frames, sound))
    reserved = placeholder(len(write_receipt(making, longest)))
    look = _Look(making.num_frames)
    watched = replace(footage, frames=look.watch(footage.frames))
    encode(path, kind, watched, tags_of(kind, reserved))
    add_mark(path, kind, reserved)
    with path.open("rb", buffering=0) as file:
        digests = packet_digests(file)
        whole = digest_without(file, reserved)
    sounds = Packets.of(digests[SOUNDS]) if SOUNDS in digests else None
    written = writing(Packets.of(digests[PICTURES]), sounds, pack(look.seen), whole)
    receipt = write_receipt(making, written)
    fill_in(path, reserved, receipt)
    return receipt


def _longest(kind: str, num_frames: int, sound: Sound) -> tuple[Packets, Packets | None, str, str]:
    """Values as long as those of this clip can be: packets, look and the file's digest."""

    def packets(count: int) -> Packets:
        return Packets(_NO_DIGEST, pack(np.zeros(count * PACKET_BYTES)))

    container, sounds = CONTAINERS[kind], None
    if container.sound_codec:
        seconds = len(sound.samples) / sound.rate
        size = container.sound_packet / written_rate(container, sound.rate)
        sounds = packets(math.ceil(seconds / size) + _MORE_PACKETS)
    look = pack(np.zeros((len(picture_numbers(num_frames)), CELLS)))
    return packets(num_frames + 1), sounds, look, _NO_DIGEST
