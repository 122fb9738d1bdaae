"""A JPEG's marks, before it is decoded."""

import mmap
import re
import struct
from typing import IO

from keyvid.errors import MediaError

# Encoders make about ten, and each costs as much as the picture is large.
_MOST_SCANS = 100
_MOST_MARKS = 10_000  # an ICC profile, the largest thing that is split up, needs 255 at most
_MARK = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # what is no data and no restart
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_ALONE = frozenset((0x01, 0xD8))  # marks without a length
_HUFFMAN = frozenset(range(0xC0, 0xC8))  # of the frames, in which a block of 8 x 8 takes a bit
_PIXELS_A_BYTE = 8 * 64
_FRAME = struct.Struct(">BHH")


def check_jpeg(file: IO[bytes], name: str) -> None:
    """Refuse a JPEG that would be decoded for hours, or not at all.

    Raises:
        MediaError: it has too many scans or marks, other than 8 bits per channel, or too few bytes
            for its pixels, of which libjpeg makes a grey picture without a word.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return
    scans = marks = needed = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mark = _MARK.search(data, 2)
        while mark:
            kind, at = data[mark.start() + 1], mark.end()
            if kind in _FRAMES:
                needed = _least_bytes(name, kind, data[at + 2 : at + 7])
            if kind == _SCAN and not scans and len(data) - at < needed:
                raise MediaError(
                    f"{name}: is a JPEG whose data end early ({len(data) - at} bytes, expected "
                    f"{needed:,} at least); give a whole picture"
                )
            scans += kind == _SCAN
            if scans > _MOST_SCANS:
                raise MediaError(
                    f"{name}: is a JPEG of more than {_MOST_SCANS} scans, expected about 10; "
                    "save it again"
                )
            marks += 1
            if marks > _MOST_MARKS:
                raise MediaError(
                    f"{name}: is a JPEG of more than {_MOST_MARKS:,} parts, expected fewer than "
                    "300; save it again"
                )
            if kind == _END:
                return
            if kind not in _ALONE:
                at += max(2, int.from_bytes(data[at : at + 2], "big"))
            mark = _MARK.search(data, at)


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
