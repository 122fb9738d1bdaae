"""Pictures in: any picture as RGB of the wanted size, upright, in sRGB."""

import os
from typing import IO, Any, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media import isolation
from keyvid.runtime.media.arguments import parse_position
from keyvid.runtime.media.colour import Coding
from keyvid.runtime.media.framing import frame_picture, unreadable
from keyvid.runtime.media.sources import FileSource, open_source
from keyvid.vocabulary import Fit

ImageSource = FileSource | Image.Image | npt.NDArray[np.uint8]


def load_image(
    source: ImageSource,
    height: int,
    width: int,
    *,
    fit: Fit = "crop",
    position: str | tuple[float, float] = "centre",
) -> npt.NDArray[np.uint8]:
    """A picture, turned as its EXIF says, scaled to (height, width), its colours in sRGB.

    Args:
        source: a file of a picture, or of a film, whose first frame it is, by its name, "-" for
            standard input, its bytes, an open file, an open image, or uint8 (H, W, 3) or
            (3, H, W) of anything that NumPy takes as an array.
        fit: "crop" for the largest part of these proportions, "pad" for all of it between bars of
            the colour of its edge.
        position: which part, or where between the bars; see `parse_position`.
    Returns:
        (height, width, 3) uint8, RGB; transparent parts white.
    Raises:
        MediaError: what is wrong with the picture.
        SettingsError: `fit` or `position` is unknown.
    """
    if fit not in get_args(Fit):
        raise SettingsError(f"fit {fit!r}: want one of {', '.join(get_args(Fit))}")
    place = parse_position(position)
    if isinstance(source, Image.Image) or hasattr(source, "__array__"):
        name, image = _open(source)
        try:
            coding = Coding(profile=image.info.get("icc_profile"))
            return frame_picture(name, image, coding, (width, height), fit, place)
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as e:
            raise unreadable(name, e) from e
    with open_source(source, "picture") as (name, file):
        answer = isolation.decode(
            "picture", file, name, height=height, width=width, fit=fit, place=place
        )
    return np.frombuffer(answer.content, np.uint8).reshape(height, width, 3)


def picture_size(source: str | os.PathLike[str] | IO[bytes]) -> tuple[int, int]:
    """Width and height as the header of a file says them, nothing decoded.

    Raises:
        MediaError: it is no picture.
    """
    with open_source(source, "picture") as (name, file):
        width, height = isolation.decode("picture_size", file, name).values["size"]
    return width, height


def _open(source: Any) -> tuple[str, Image.Image]:
    """The name of a picture in messages, and its pixels."""
    if hasattr(source, "__array__") and not isinstance(source, Image.Image):
        return "image array", Image.fromarray(_as_pixels(source))
    try:
        return "the image", source.copy()
    except Exception as error:  # it may be opened, and not yet read
        raise unreadable("the image", error) from error


def _as_pixels(source: Any) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8."""
    try:
        array = np.asarray(source)
    except Exception as error:  # whatever an object raises that will not be an array
        raise MediaError(
            f"image is no array: {' '.join(str(error).split())[:100]}; give uint8 (H, W, 3)"
        ) from error
    if array.ndim == 3 and array.shape[0] == 3 != array.shape[2]:
        array = array.transpose(1, 2, 0)  # (3, H, W)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise MediaError(f"image array is {array.dtype} {array.shape}, expected uint8 (H, W, 3)")
    return np.ascontiguousarray(array)
