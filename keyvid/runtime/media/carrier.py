"""Where a file holds what is said of it: a receipt in its comment, and an XMP packet.

A receipt tells of the whole file, so it is known last: the file is written with a comment of the
right length, which is replaced in place. Comments were chosen as programs keep them that copy the
streams into another container. WebP has none; there the XMP packet holds the receipt. GIF has the
mark only.
"""

import hashlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from keyvid.provenance.mark import MADE_BY_A_MODEL, TAG, xmp_packet

COMMENT = "comment"  # FFmpeg's name for it

_PLACEHOLDER = "keyvid receipt, not filled in"
_WITH_COMMENTS = (".mp4", ".webm")
HOLD_RECEIPTS = (*_WITH_COMMENTS, ".webp")  # kinds of files
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # of ISO 16684-1, in MP4
_VP8X_XMP = 0x04  # a flag of WebP's header
_GIF_XMP = b"\x21\xff\x0bXMP DataXMP"
# What ends XMP in GIF: wherever a reader that knows nothing of it stands, it comes to the last 0.
_GIF_XMP_END = bytes([1, *range(255, -1, -1), 0])
_GIF_END = b"\x3b"
_MOST_XMP = 1 << 24  # bytes


def placeholder(length: int) -> str:
    """What stands where a receipt of so many characters, or fewer, is to stand."""
    return _PLACEHOLDER.ljust(length, ".")


def tags_of(kind: str, receipt: str | None) -> dict[str, str]:
    """Metadata to write a file of `kind` with.

    Args:
        receipt: or its placeholder; None for none.
    """
    tags = {TAG: MADE_BY_A_MODEL} if kind == ".webm" else {}
    if receipt is not None and kind in _WITH_COMMENTS:
        tags[COMMENT] = receipt
    return tags


def add_mark(path: Path, kind: str, receipt: str | None) -> None:
    """Put an XMP packet into a written file of `kind`; WebM has no place for one.

    Args:
        receipt: as for `tags_of`; it stands in the packet where there are no comments.
    """
    packet = xmp_packet(receipt if kind == ".webp" else None)
    with path.open("r+b") as file:
        if kind == ".mp4":
            file.seek(0, os.SEEK_END)
            size = 8 + len(_XMP_UUID) + len(packet)
            file.write(size.to_bytes(4, "big") + b"uuid" + _XMP_UUID + packet)
        elif kind == ".webp":
            _add_to_webp(file, packet)
        elif kind == ".gif":
            file.seek(-len(_GIF_END), os.SEEK_END)
            file.write(_GIF_XMP + packet + _GIF_XMP_END + _GIF_END)


def png_mark() -> PngInfo:
    """The mark for a PNG, which is a frame of a clip."""
    mark = PngInfo()
    mark.add_itxt("XML:com.adobe.xmp", xmp_packet().decode())
    return mark


def fill_in(path: Path, reserved: str, receipt: str) -> None:
    """Replace a placeholder in a file by the receipt that it was kept for."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        at = content.find(reserved.encode())
        content[at : at + len(reserved)] = receipt.encode().ljust(len(reserved))


def digest_without(file: IO[bytes], text: str) -> str:
    """sha256 (hex) of a file in which `text` counts as spaces."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        hidden = text.encode()
        at = content.find(hidden)
        if at < 0:
            return hashlib.sha256(content).hexdigest()
        with memoryview(content) as view:
            found = hashlib.sha256(view[:at])
            found.update(b" " * len(hidden))
            found.update(view[at + len(hidden) :])
        return found.hexdigest()


def read_xmp(file: IO[bytes]) -> str:
    """The XMP packet of an MP4, WebP or GIF, "" where there is none."""
    file.seek(0)
    start = file.read(12)
    packet = b""
    if start[4:8] == b"ftyp":
        size = os.fstat(file.fileno()).st_size
        packets = (body for kind, body in _boxes(file, size) if kind == b"uuid")
        packet = next((p[16:] for p in packets if p[:16] == _XMP_UUID), b"")
    elif start[:4] == b"RIFF":
        packet = next((body for kind, body in riff_chunks(file) if kind == b"XMP "), b"")
    elif start[:3] == b"GIF":
        file.seek(0)
        _, _, after = file.read(_MOST_XMP).partition(_GIF_XMP)
        packet = after.partition(_GIF_XMP_END)[0]
    return packet.decode("utf-8", "replace")


def riff_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk of a WebP."""
    end = os.fstat(file.fileno()).st_size
    at = 12
    while at + 8 <= end:
        file.seek(at)
        header = file.read(8)
        size = int.from_bytes(header[4:], "little")
        yield header[:4], file.read(min(size, end - at))
        at += 8 + size + size % 2


def _boxes(file: IO[bytes], end: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the small boxes at the top of an MP4; others are passed over."""
    at = 0
    while at + 8 <= end:
        file.seek(at)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        start = at + 8
        if size == 1:
            size, start = int.from_bytes(header[8:], "big"), at + 16
        size = size or end - at
        if size < start - at:
            return
        if size <= _MOST_XMP:
            file.seek(start)
            yield kind, file.read(at + size - start)
        at += size


def _add_to_webp(file: IO[bytes], packet: bytes) -> None:
    """Add a chunk at the end, and say so in the header; a still picture has none yet."""
    with Image.open(file) as image:
        width, height = image.size
    file.seek(0)
    content = bytearray(file.read())
    if content[12:16] != b"VP8X":
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        content[12:12] = b"VP8X" + (10).to_bytes(4, "little") + bytes(4) + sides
    content[20] |= _VP8X_XMP
    content += b"XMP " + len(packet).to_bytes(4, "little") + packet + bytes(len(packet) % 2)
    content[4:8] = (len(content) - 8).to_bytes(4, "little")
    file.seek(0)
    file.write(content)
