"""The pixels of a picture file, also of one whose last bytes are missing."""

import threading
import warnings
from contextlib import ExitStack
from typing import IO

import numpy as np
from PIL import Image, ImageFile

from keyvid.errors import MediaError
from keyvid.remarks import remark
from keyvid.runtime.media.sources import silent_stderr

_MOST_PIXELS = 89_478_485  # 256 MiB as RGB
_MOST_PIXELS_JPEG = 2 * _MOST_PIXELS  # decoded at a fraction of its size
_LOST = 0.1  # of the rows: with more missing, a picture is not the one that was meant
_JPEGS = ("JPEG", "MPO")
_BLANK = {"JPEG": 128, "MPO": 128, "PNG": 0, "GIF": 0, "TIFF": 0}  # what missing rows are left as

_truncated = threading.Lock()  # holds Pillow's one flag for incomplete files


def read_picture(file: IO[bytes], name: str, side: int) -> Image.Image:
    """The decoded picture, at least `side` pixels high and wide if the file has them.

    Raises:
        MediaError: it has too many pixels.
        Exception: whatever Pillow raises on damaged files.
    """
    try:
        return _decode(file, name, side)
    except MediaError:
        raise
    except Exception:
        with _truncated:
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            try:
                part = _decode(file, name, side)
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = False
        rows = _decoded_rows(part)
        if rows < (1 - _LOST) * part.height:
            raise
        remark(f"{name}: damaged or cut off; what could be read of it is used")
        return part if rows == part.height else _first_rows(part, rows)


def _decode(file: IO[bytes], name: str, side: int) -> Image.Image:
    file.seek(0)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        try:
            image = stack.enter_context(Image.open(file))
        except Image.DecompressionBombError as error:
            raise _too_large(name, _MOST_PIXELS_JPEG) from error
        most = _MOST_PIXELS_JPEG if image.format in _JPEGS else _MOST_PIXELS
        if image.width * image.height > most:
            raise _too_large(name, most)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8: less memory, the same result.
        image.draft(None, (side, side))
        if image.format == "TIFF":  # its library prints what it thinks of a file
            stack.enter_context(silent_stderr())
        image.load()
        return image


def _decoded_rows(image: Image.Image) -> int:
    """How many rows hold a picture; none where the format does not tell."""
    blank = _BLANK.get(image.format or "")
    if blank is None:
        return 0
    rows = np.asarray(image).reshape(image.height, -1)
    below = (row for row in range(image.height, 0, -1) if (rows[row - 1] != blank).any())
    return next(below, 0)


def _first_rows(image: Image.Image, rows: int) -> Image.Image:
    """The first `rows` rows, with what the file says of the picture."""
    part = image.crop((0, 0, image.width, rows))
    part.info = image.info
    part.getexif().update(image.getexif())
    return part


def _too_large(name: str, most: int) -> MediaError:
    return MediaError(f"{name}: has more than {most:,} pixels; shrink it first")
