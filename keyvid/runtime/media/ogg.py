"""Ogg pages, as far as FFmpeg says nothing of them."""

import mmap
from typing import IO

_CAPTURE = b"OggS\0"
_FIRST_PAGE = 0x02  # flag of a stream's first page


def has_links(file: IO[bytes]) -> bool:
    """Whether a file is a chain of several Ogg files, where time begins anew in each link."""
    file.seek(0)
    if file.read(5) != _CAPTURE:
        return False
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at, began = 0, False
        while at >= 0 and at + 5 < len(data):
            is_first = bool(data[at + 5] & _FIRST_PAGE)
            if is_first and began:
                return True
            began = began or not is_first
            at = data.find(_CAPTURE, at + 5)
    return False
