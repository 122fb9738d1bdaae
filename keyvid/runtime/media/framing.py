"""A picture of any mode as RGB of the wanted size, upright, in sRGB."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from keyvid.errors import MediaError
from keyvid.remarks import remark
from keyvid.runtime.media.colour import Coding, in_srgb
from keyvid.runtime.media.sources import decoder_message
from keyvid.vocabulary import Fit

_BACKGROUND = "white"  # of pictures with transparency: cut-outs and logos are mostly drawn for it
_CUT_WITHOUT_A_WORD = 0.2  # of the picture
_BAND = 1 << 22  # pixels that are scaled to 8 bits at a time
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def frame_picture(
    name: str,
    image: Image.Image,
    coding: Coding,
    size: tuple[int, int],
    fit: Fit,
    place: tuple[float, float],
) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 of sRGB, turned as the EXIF says; transparent parts white.

    Args:
        name: of the picture, in messages.
        coding: how its numbers mean colours.
        size: (width, height).
        fit, place: see `load_image` and `parse_position`.
    Raises:
        Exception: whatever Pillow raises on damaged pictures.
    """
    image = _upright(image)
    if fit == "crop":
        _say_what_is_cut(name, image.size, size, place)
    image = _fitted(_resizable(name, image), size, fit, place)
    return np.array(_opaque(in_srgb(name, image, coding)))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION))  # type: ignore[arg-type] # None: none
    except Exception:  # damaged EXIF says nothing; the pixels are all that is wanted
        turn = None
    return image if turn is None else image.transpose(turn)


def _say_what_is_cut(
    name: str, size: tuple[int, int], wanted: tuple[int, int], place: tuple[float, float]
) -> None:
    proportions = size[0] / size[1] / (wanted[0] / wanted[1])
    cut = 1 - min(proportions, 1 / proportions)
    if cut > _CUT_WITHOUT_A_WORD:
        axis = 0 if proportions > 1 else 1
        first, second = (("left", "right"), ("top", "bottom"))[axis]
        sides = {0.0: second, 1.0: first}.get(place[axis], f"{first} and {second}")
        choice = ", a crop position chooses the part" if place[axis] == 0.5 else ""
        remark(
            f"{name}: {100 * cut:.0f} % of the picture are cut off, at its {sides}; fit 'pad' "
            f"keeps all of it{choice}"
        )


def _resizable(name: str, image: Image.Image) -> Image.Image:
    """The same picture in 8 bits per channel, in a mode that can be scaled."""
    if image.mode.startswith(("I", "F")):
        image = _in_8_bits(name, image)
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _in_8_bits(name: str, image: Image.Image) -> Image.Image:
    """A picture of one channel of integers or floats, as L."""
    rows = max(1, _BAND // image.width)
    tops = range(0, image.height, rows)

    def band(top: int) -> npt.NDArray[np.float32]:
        box = (0, top, image.width, min(top + rows, image.height))
        values = np.asarray(image.crop(box), dtype=np.float32)
        return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)

    usual = 1.0 if image.mode == "F" else 65_535.0
    white = _white(max(float(band(top).max()) for top in tops), image.mode)
    if white != usual:
        remark(f"{name}: values are taken as 0 (black) to {white:g} (white)")
    grey = np.empty((image.height, image.width), np.uint8)
    for top in tops:
        grey[top : top + rows] = np.clip(band(top) * (255.0 / white) + 0.5, 0.0, 255.0)
    return Image.fromarray(grey)


def _white(largest: float, mode: str) -> float:
    """The value that means white: floats to 1, else integers of the fewest bytes that hold it."""
    if mode.startswith("I;16"):
        return 65_535.0
    steps = (255.0, 65_535.0, 2.0**31 - 1)
    return next(
        (white for white in ((1.0, *steps) if mode == "F" else steps) if largest <= white), largest
    )


def _fitted(
    image: Image.Image, size: tuple[int, int], fit: Fit, place: tuple[float, float]
) -> Image.Image:
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS, centering=place)
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (
        min(size[0], max(1, round(image.width * scale))),
        min(size[1], max(1, round(image.height * scale))),
    )
    image = image.resize(inner, Image.Resampling.LANCZOS)
    left, top = (round((size[i] - inner[i]) * place[i]) for i in (0, 1))
    padded = Image.new(image.mode, size, _edge_colour(image))
    padded.paste(image, (left, top))
    return padded


def _edge_colour(image: Image.Image) -> Any:
    """The median of the pixels around a picture, so that bars beside it catch no eye."""
    pixels = np.asarray(image)
    edge = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    median = np.median(np.concatenate(edge), axis=0).round().astype(int)
    return int(median) if median.ndim == 0 else tuple(median.tolist())


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    backdrop = Image.new("RGBA", image.size, _BACKGROUND)
    return Image.alpha_composite(backdrop, image).convert("RGB")


def unreadable(name: str, error: Exception) -> MediaError:
    """The error for a picture of which a decoder says this."""
    unknown = isinstance(error, UnidentifiedImageError)
    reason = "of a kind that is not read here" if unknown else decoder_message(error)
    return MediaError(
        f"{name}: not a picture that can be read ({reason}); give a whole PNG, JPEG or WebP file"
    )
