"""A JPEG's marks, before it is decoded."""

import mmap
import re
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

from keyvid.errors import MediaError
from keyvid.runtime.media.jpeg_zeros import ac_tables, holds_zeros, zero_symbols

# Encoders make about ten, and each costs as much as the picture is large.
_MOST_SCANS = 100
_MOST_MARKS = 10_000  # an ICC profile, the largest thing that is split up, needs 255 at most
_MARK = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # what is no data and no restart
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END, _TABLES = 0xDA, 0xD9, 0xC4
_SEQUENTIAL = frozenset((0xC0, 0xC1))  # and Huffman: each scan has whole blocks
_ALONE = frozenset((0x01, 0xD8))  # marks without a length
_HUFFMAN = frozenset(range(0xC0, 0xC8))  # of the frames, in which a block of 8 x 8 takes a bit
_PIXELS_A_BYTE = 8 * 64
_FRAME = struct.Struct(">BHH")


def check_jpeg(file: IO[bytes], name: str) -> None:
    """Refuse a JPEG that would be decoded for hours, or not at all.

    Raises:
        MediaError: it has too many scans or marks, other than 8 bits per channel, too few bytes
            for its pixels, or zeros amid them, of which libjpeg makes a picture that is grey, in
            part or all of it, without a word.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        fault = _fault(name, data)
    if fault:
        raise MediaError(f"{name}: is a JPEG {fault}")


def _fault(name: str, data: mmap.mmap) -> str:
    """What is wrong with it, "" for nothing; raises as `_least_bytes`."""
    num_scans = needed = 0
    is_sequential, symbols = False, dict[int, int]()
    for num_parts, part in enumerate(_parts(data), 1):
        if num_parts > _MOST_MARKS:
            return f"of more than {_MOST_MARKS:,} parts, expected fewer than 300; save it again"
        body = data[part.body : part.data]
        if part.kind in _FRAMES:
            needed = _least_bytes(name, part.kind, body[: _FRAME.size])
            is_sequential = part.kind in _SEQUENTIAL
        elif part.kind == _TABLES:
            symbols |= zero_symbols(body)
        elif part.kind == _SCAN:
            left = len(data) - part.data
            if not num_scans and left < needed:
                found = f"{left} bytes, expected {needed:,} at least"
                return f"whose data end early ({found}); give a whole picture"
            num_scans += 1
            if num_scans > _MOST_SCANS:
                return f"of more than {_MOST_SCANS} scans, expected about 10; save it again"
            place = part.data, part.end
            if is_sequential and holds_zeros(data, *place, ac_tables(body), symbols):
                return "with zeros where a part of its pixels was; give a whole picture"
    return ""


class _Part(NamedTuple):
    """A mark and what follows it: places of its body, of data after that, and of the next mark."""

    kind: int
    body: int
    data: int
    end: int


def _parts(data: mmap.mmap) -> Iterator[_Part]:
    """From the first to the end of the picture."""
    mark = _MARK.search(data, 2)
    while mark and data[mark.start() + 1] != _END:
        kind, at = data[mark.start() + 1], mark.end()
        after = at
        if kind not in _ALONE:
            after += max(2, int.from_bytes(data[at : at + 2], "big"))
        mark = _MARK.search(data, after)
        yield _Part(kind, at + 2, after, mark.start() if mark else len(data))


def _least_bytes(name: str, kind: int, frame: bytes) -> int:
    """How many bytes a frame's scans have at least.

    Args:
        frame: bits per channel, height and width of its header.
    Raises:
        MediaError: it has other than 8 bits per channel.
    """
    if len(frame) < _FRAME.size:
        return 0
    bits, height, width = _FRAME.unpack(frame)
    if bits != 8:
        raise MediaError(
            f"{name}: is a JPEG of {bits} bits per channel, expected 8; convert it to PNG"
        )
    return int(height * width // _PIXELS_A_BYTE) if kind in _HUFFMAN else 0
