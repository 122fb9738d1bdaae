"""The pixels of a picture file, also of one whose last bytes are missing."""

import warnings
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError

from keyvid.errors import MediaError
from keyvid.remarks import remark
from keyvid.runtime.media import film_frame
from keyvid.runtime.media.colour import Coding
from keyvid.runtime.media.ffmpeg import MOST_PIXELS
from keyvid.runtime.media.framing import frame_picture, unreadable
from keyvid.runtime.media.jpeg import check_jpeg
from keyvid.runtime.media.picture_format import coding_of, formats_for
from keyvid.runtime.media.png import check_png
from keyvid.vocabulary import Fit

_MOST_PIXELS_JPEG = 2 * MOST_PIXELS  # decoded at a fraction of its size
_LOST = 0.1  # of the rows: with more missing, a picture is not the one that was meant
_JPEGS = ("JPEG", "MPO")
# What missing rows are left as: where nothing came of a JPEG 0, and else grey, which is one less
# where it is inverted (CMYK).
_BLANK = {"JPEG": (0, 127, 128), "MPO": (0, 127, 128), "PNG": (0,), "GIF": (0,), "TIFF": (0,)}


def load(
    file: IO[bytes], name: str, height: int, width: int, fit: Fit, place: list[float]
) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    """(height, width, 3) uint8, see `keyvid.runtime.media.picture.load_image`.

    Raises:
        MediaError: what is wrong with the picture.
        MemoryError: it takes more than there is.
    """
    try:
        image, coding = read_picture(file, name, 2 * max(height, width))
        return {}, frame_picture(name, image, coding, (width, height), fit, (place[0], place[1]))
    except (MediaError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        if "out of memory" in str(error):
            raise MemoryError from error
        raise unreadable(name, error) from error


def size(file: IO[bytes], name: str) -> tuple[dict[str, Any], None]:
    """Width and height as the header says them.

    Raises:
        MediaError: it is no picture.
    """
    try:
        try:
            with _opened(file, name) as image:
                return {"size": image.size}, None
        except UnidentifiedImageError as error:
            found = film_frame.size(file, name)
            if found is None:
                raise unreadable(name, error) from error
            return {"size": found}, None
    except (MediaError, MemoryError):
        raise
    except Exception as error:
        raise unreadable(name, error) from error


def read_picture(file: IO[bytes], name: str, side: int) -> tuple[Image.Image, Coding]:
    """The decoded picture, at least `side` pixels high and wide if the file has them.

    Raises:
        MediaError: it has too many pixels, or is of a kind that is not read.
        Exception: whatever Pillow raises on damaged files.
    """
    try:
        return _decode(file, name, side)
    except (MediaError, MemoryError):
        raise
    except UnidentifiedImageError:
        frame = film_frame.read_frame(file, name)
        if frame is None:
            raise
        return frame
    except Exception:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            part, coding = _decode(file, name, side)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        rows = _decoded_rows(part)
        if rows < (1 - _LOST) * part.height:
            raise
        remark(f"{name}: damaged or cut off; what could be read of it is used")
        return part if rows == part.height else _first_rows(part, rows), coding


def _decode(file: IO[bytes], name: str, side: int) -> tuple[Image.Image, Coding]:
    with _opened(file, name) as image:
        # A JPEG can be decoded at 1/2, 1/4 or 1/8: less memory, the same result.
        image.draft(None, (side, side))
        image.load()
        return image, coding_of(image, file)


def _opened(file: IO[bytes], name: str) -> Image.Image:
    """A picture that is of a format of ours and not too large, not yet decoded."""
    check_jpeg(file, name)
    check_png(file, name)
    formats = formats_for(file, name)
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError as error:
            raise _too_large(name, _MOST_PIXELS_JPEG) from error
    most = _MOST_PIXELS_JPEG if image.format in _JPEGS else MOST_PIXELS
    if image.width * image.height > most:
        raise _too_large(name, most)
    return image


def _decoded_rows(image: Image.Image) -> int:
    """How many rows hold a picture; none where the format does not tell."""
    blank = _BLANK.get(image.format or "")
    if blank is None:
        return 0
    rows = np.asarray(image).reshape(image.height, -1)
    below = (row for row in range(image.height, 0, -1) if not _is_plain(rows[row - 1], blank))
    return next(below, 0)


def _is_plain(row: npt.NDArray[Any], values: tuple[int, ...]) -> bool:
    """Whether all of a row is one of these."""
    return row[0] in values and bool((row == row[0]).all())


def _first_rows(image: Image.Image, rows: int) -> Image.Image:
    """The first `rows` rows, with what the file says of the picture."""
    part = image.crop((0, 0, image.width, rows))
    part.info = image.info
    part.getexif().update(image.getexif())
    return part


def _too_large(name: str, most: int) -> MediaError:
    return MediaError(f"{name}: has more than {most:,} pixels; shrink it first")
