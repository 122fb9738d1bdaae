"""Files that are nearly right: bytes changed, lost, repeated or exchanged."""

import random
from collections.abc import Callable

_ODD_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` after one to four mishaps; most are near its beginning, where headers are."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_MISHAPS)(data, rng) or data
    return data


def _place(data: bytes, rng: random.Random) -> int:
    return rng.randrange(min(len(data), rng.choice((40, 400, len(data)))))


def _changed(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8))):
        changed[_place(data, rng)] = rng.choice((*_ODD_BYTES, rng.randrange(256)))
    return bytes(changed)


def _flipped(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    at, length = _place(data, rng), rng.choice((2, 4, 8, 64))
    return data[:at] + bytes([rng.choice(_ODD_BYTES)]) * length + data[at + length :]


def _lost(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.choice((1, 2, 100, 1000)) :]


def _repeated(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[: at + rng.choice((1, 16, 500))] + data[at:]


def _cut_off(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((rng.randrange(len(data)), -1, -2, -16))]


def _exchanged(data: bytes, rng: random.Random) -> bytes:
    first, second = sorted((_place(data, rng), _place(data, rng)))
    return data[second:] + data[first:second] + data[:first]


_MISHAPS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _changed,
    _changed,
    _flipped,
    _overwritten,
    _lost,
    _repeated,
    _cut_off,
    _exchanged,
)
