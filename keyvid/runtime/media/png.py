"""A PNG's chunks, before it is opened."""

import mmap
from typing import IO

from keyvid.errors import MediaError

# Encoders write one for each 8 kB or more; Pillow takes 7 us for each, and many can be empty.
_MOST_CHUNKS = 100_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(file: IO[bytes], name: str) -> None:
    """Refuse a PNG that would be read for long, whatever its size.

    Raises:
        MediaError: it has too many chunks.
    """
    file.seek(0)
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = len(_SIGNATURE)
        for _ in range(_MOST_CHUNKS):
            if at >= len(data):
                return
            at += 12 + int.from_bytes(data[at : at + 4], "big")
    raise MediaError(
        f"{name}: is a PNG of more than {_MOST_CHUNKS:,} chunks, expected fewer than 10,000; "
        "save it again"
    )
