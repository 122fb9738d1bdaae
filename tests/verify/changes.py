"""Single changes to a clip's file, and what has to be found of each."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from keyvid.runtime.media.carrier import riff_chunks
from keyvid.verify.finding import Finding
from keyvid.verify.verification import AtHand, verify_clip

Random = np.random.Generator
ALONE = AtHand()


@dataclass(frozen=True)
class Change:
    """A change of a byte, and what is found of it: part, verdict, and words of the text."""

    name: str
    make: Callable[[bytearray, Path, Random], str]
    part: str
    verdict: str


def found(path: Path, at_hand: AtHand = ALONE) -> dict[str, Finding]:
    """What is found of a clip, by parts."""
    return {finding.part: finding for finding in verify_clip(path, at_hand)}


def apply(change: Change, path: Path, target: Path, random: Random) -> str:
    """Write a changed copy of a clip; gives the words that a finding has to have."""
    content = bytearray(path.read_bytes())
    words = change.make(content, path, random)
    assert content != path.read_bytes()
    target.write_bytes(content)
    return words


def packets(path: Path, kind: str) -> list[tuple[int, int]]:
    """Place and size of each packet of pictures ("video") or of sounds ("audio")."""
    if path.suffix == ".webp":
        content, places = path.read_bytes(), []
        with path.open("rb", buffering=0) as file:
            for name, body in riff_chunks(file):
                if name == b"ANMF":
                    places.append((content.find(body), len(body)))
        return places
    with av.open(str(path)) as container:
        stream = next(one for one in container.streams if one.type == kind)
        return [(p.pos, p.size) for p in container.demux(stream) if p.size]


def _flip(content: bytearray, at: int, random: Random) -> None:
    content[at] ^= 1 << int(random.integers(8))


def _packet(kind: str) -> Callable[[bytearray, Path, Random], str]:
    def make(content: bytearray, path: Path, random: Random) -> str:
        places = packets(path, kind)
        number = int(random.integers(len(places)))
        at, size = places[number]
        # WebM has a few bytes before what is encoded; the last byte is of it in each container.
        end = content.find(_bytes(path, kind, number), at) + size
        _flip(content, end - 1 - int(random.integers(max(size // 2, 1))), random)
        return f"packet {number + 1} of {len(places)}"

    return make


def _bytes(path: Path, kind: str, number: int) -> bytes:
    if path.suffix == ".webp":
        at, size = packets(path, kind)[number]
        return path.read_bytes()[at : at + size]
    with av.open(str(path)) as container:
        stream = next(one for one in container.streams if one.type == kind)
        return [bytes(p) for p in container.demux(stream) if p.size][number]


def _field(name: str, value: Callable[[Any], Any]) -> Callable[[bytearray, Path, Random], str]:
    """Another value of as many characters in a field of the receipt."""

    def make(content: bytearray, path: Path, random: Random) -> str:
        text = receipt_text(path)
        fields = json.loads(text)
        old = f'"{name}":{json.dumps(fields[name], separators=(",", ":"))}'
        new = f'"{name}":{json.dumps(value(fields[name]), separators=(",", ":"))}'
        assert len(old) == len(new)
        at = content.find(old.encode())
        content[at : at + len(old)] = new.encode()
        return name

    return make


def _prompt(content: bytearray, path: Path, random: Random) -> str:
    at = content.find(b'"prompt":"') + len(b'"prompt":"')
    content[at : at + 1] = b"x"
    return "prompt"


def _mark(content: bytearray, path: Path, random: Random) -> str:
    at = content.find(b"trainedAlgorithmicMedia")
    _flip(content, at + int(random.integers(20)), random)
    return ""


def _metadata(content: bytearray, path: Path, random: Random) -> str:
    """A byte of what is neither receipt, nor pictures, nor sound, and that no reader stops at."""
    for word in (b"VideoHandler", b"Lavf", b"CreatorTool>keyvid"):
        if (at := content.find(word)) >= 0:
            _flip(content, at + len(word) - 1, random)
            return ""
    raise AssertionError(path)


def receipt_text(path: Path) -> str:
    """The receipt in a file, by what it begins with."""
    content = path.read_bytes()
    at = content.find(b'{"receipt":1')
    text, _ = json.JSONDecoder().raw_decode(content[at : at + 100_000].decode("latin-1"))
    return json.dumps(text, separators=(",", ":"))


def _other_digit(value: int) -> int:
    return value + 1 if value % 10 < 9 else value - 1


def _other_hex(value: str) -> str:
    return ("0" if value[0] != "0" else "1") + value[1:]


CHANGES = (
    Change("a byte of a picture", _packet("video"), "pictures", "bad"),
    Change("a byte of a sound", _packet("audio"), "sound", "bad"),
    Change("the seed in the receipt", _field("seed", _other_digit), "receipt", "bad"),
    Change("a digest in the receipt", _field("pixels", _other_hex), "receipt", "bad"),
    Change("the prompt", _prompt, "receipt", "bad"),
    Change("the mark", _mark, "mark", "noted"),
    Change("other metadata", _metadata, "file", "noted"),
)
