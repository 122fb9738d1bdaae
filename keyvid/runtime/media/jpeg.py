"""A JPEG's marks, before it is decoded."""

import mmap
import re
from typing import IO

from keyvid.errors import MediaError

# Encoders make about ten, and each costs as much as the picture is large.
_MOST_SCANS = 100
_MARK = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # what is no data and no restart
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _END = 0xDA, 0xD9
_ALONE = frozenset((0x01, 0xD8))  # marks without a length


def check_jpeg(file: IO[bytes], name: str) -> None:
    """Refuse a JPEG that would be decoded for hours, or not at all.

    Raises:
        MediaError: it has too many scans, or other than 8 bits per channel.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return
    scans = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        mark = _MARK.search(data, 2)
        while mark:
            kind, at = data[mark.start() + 1], mark.end()
            if kind in _FRAMES and at + 2 < len(data) and data[at + 2] != 8:
                raise MediaError(
                    f"{name}: is a JPEG of {data[at + 2]} bits per channel, expected 8; "
                    "convert it to PNG"
                )
            scans += kind == _SCAN
            if scans > _MOST_SCANS:
                raise MediaError(
                    f"{name}: is a JPEG of more than {_MOST_SCANS} scans, expected about 10; "
                    "save it again"
                )
            if kind == _END:
                return
            if kind not in _ALONE:
                at += max(2, int.from_bytes(data[at : at + 2], "big"))
            mark = _MARK.search(data, at)
