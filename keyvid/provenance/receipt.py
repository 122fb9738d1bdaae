"""Receipts: what a clip was made of and with, what each stage made, and what was written.

A receipt names no file, path or user. It is JSON in a file's own metadata, sealed by digests of its
fields. Anyone can write a false one: it is worth what making the clip again shows, or what the
signature over it is worth.
"""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from keyvid.sampling import Sampling

VERSION = 1
PACKET_BYTES = 4  # of each packet's digest: it tells which one differs
_SEAL = "seal"
_WHOLE = "whole"
_SEAL_DIGITS = 8
_WORDS = ("keyvid", '"receipt"', '"seal"', '"pixels"')  # one of which a damaged receipt still has


@dataclass(frozen=True)
class Reading:
    """How picture and sound were read, see `keyvid.vocabulary.ClipChoices`; `start` in seconds."""

    fit: str
    position: tuple[float, float]
    start: float
    track: int | None


@dataclass(frozen=True)
class BundleRecord:
    """The model.

    Attributes:
        weights: "trained" or "random".
        manifest: sha256 of bundle.json, which has the sha256 of each file.
        origin: repositories and commits of the weights, where they are known.
        files: the beginning of each file's sha256, so that it can be named.
    """

    name: str
    weights: str
    manifest: str
    origin: tuple[str, ...]
    files: dict[str, str]


@dataclass(frozen=True)
class EngineRecord:
    """What ran the model.

    Attributes:
        precision: of the graphs, such as "fp32".
        versions: of the packages that decide what it computes, NumPy and FFmpeg's among them.
        batches: guidance branches per call, by U-Net.
    """

    name: str
    precision: str
    versions: dict[str, str]
    batches: dict[str, int]


@dataclass(frozen=True)
class Making:
    """How the frames of a clip came about.

    Attributes:
        keyvid: its version.
        picture: sha256 of the picture (H, W, 3) uint8 as the networks see it.
        sound: sha256 of the sound (n,) float32 as they hear it.
        track: sha256 of the sound that goes into the file.
        end: sha256 of the given last frame (H, W, 3) uint8, None where the clip ends as it does.
        num_frames, fps: of the clip.
        keyframes: those that were asked for, of each segment; None for those of the motion.
        motion: base64 of the motion (num_frames,) float32 that was told; None for one predicted.
        beats: seconds to which the events of the sound were moved; None for none.
        packaged_localizer: whether the packaged model predicted it.
        stages: beginning of the sha256 of what each stage made, in their order.
        pixels: sha256 of all frames (F, H, W, 3) uint8, before they were enlarged and encoded.
    """

    keyvid: str
    picture: str
    sound: str
    track: str
    end: str | None
    prompt: str
    seed: int
    settings: Sampling
    reading: Reading
    num_frames: int
    fps: int
    keyframes: tuple[int, ...] | None
    motion: str | None
    beats: tuple[float, ...] | None
    packaged_localizer: bool
    bundle: BundleRecord
    engine: EngineRecord
    stages: dict[str, str]
    pixels: str


@dataclass(frozen=True)
class Packets:
    """The encoded packets of a stream: sha256 of all, and base64 of the beginning of each one's."""

    digest: str
    each: str

    @classmethod
    def of(cls, digests: list[bytes]) -> "Packets":
        """From the sha256 of each packet."""
        each = b"".join(one[:PACKET_BYTES] for one in digests)
        return cls(hashlib.sha256(b"".join(digests)).hexdigest(), base64.b64encode(each).decode())

    def split(self) -> list[bytes]:
        """The beginning of each packet's sha256.

        Raises:
            ValueError: it is no base64.
        """
        each = base64.b64decode(self.each, validate=True)
        return [each[at : at + PACKET_BYTES] for at in range(0, len(each), PACKET_BYTES)]


@dataclass(frozen=True)
class Writing:
    """What was written.

    Attributes:
        kind: the file's suffix.
        scale, enlargement: see `keyvid.runtime.media.video.write_video`.
        pictures, sounds: the packets of the streams, None for a kind without sound.
        look, loudness: base64 of what `keyvid.provenance.likeness` makes of the frames that
            `picture_numbers` names, and of the sound.
        file: sha256 of the whole file, but for the receipt, which counts as spaces. A signature is
            added later.
    """

    kind: str
    scale: int
    enlargement: str
    pictures: Packets
    sounds: Packets | None
    look: str
    loudness: str
    file: str


@dataclass(frozen=True)
class Receipt:
    """A receipt as it was read.

    Attributes:
        broken: the fields that are not what the seal says; () for a receipt that is whole.
    """

    making: Making
    writing: Writing
    broken: tuple[str, ...] = ()


class ReceiptError(ValueError):
    """What was found is no receipt, or one that cannot be read any more."""


def write_receipt(making: Making, writing: Writing) -> str:
    """One line of ASCII, sealed; without <, > and &, so that XML holds it as it is."""
    fields = {"receipt": VERSION, **asdict(making), **asdict(writing)}
    seal = {name: _short(value) for name, value in fields.items()}
    whole = {**fields, _SEAL: seal}
    seal = {**seal, _WHOLE: hashlib.sha256(_canonical(whole)).hexdigest()}
    text = json.dumps({**fields, _SEAL: seal}, separators=(",", ":"), default=_plain)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def read_receipt(text: str) -> Receipt:
    """The receipt in a text, also one that was changed.

    Raises:
        ReceiptError: it cannot be read.
    """
    broken: tuple[str, ...] = (_SEAL,)
    try:
        content = json.loads(text)
        seal = content.pop(_SEAL)
        version = content["receipt"]
        broken = _broken(content, seal)
        if version != VERSION and not broken:
            raise ReceiptError(f"receipt {version} is not of this keyvid, which reads {VERSION}")
        making = msgspec.convert(content, Making)
        writing = msgspec.convert(content, Writing)
        for packets in (writing.pictures, writing.sounds):
            if packets:
                packets.split()
    except ReceiptError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = "was changed, and cannot be read" if broken else "is not of this keyvid's form"
        raise ReceiptError(f"the receipt {reason}") from error
    return Receipt(making, writing, broken)


def looks_like_a_receipt(text: str) -> bool:
    """Whether a comment is, or was, a receipt."""
    return text.lstrip().startswith("{") and any(word in text for word in _WORDS)


def differing_fields(text: str, other: str) -> list[str]:
    """Names of the fields in which two receipts differ."""
    first, second = json.loads(text), json.loads(other)
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def _broken(content: dict[str, Any], seal: dict[str, str]) -> tuple[str, ...]:
    whole = seal.pop(_WHOLE)
    if hashlib.sha256(_canonical({**content, _SEAL: seal})).hexdigest() == whole:
        return ()
    names = dict.fromkeys([*content, *seal])
    wrong = [n for n in names if n not in content or seal.get(n) != _short(content[n])]
    return tuple(wrong) or (_SEAL,)


def _short(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()[:_SEAL_DIGITS]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """A number of NumPy's, as settings may hold them, as one of Python's."""
    return value.item()
