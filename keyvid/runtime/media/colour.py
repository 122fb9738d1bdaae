"""What the numbers of a picture mean, and the same colours in sRGB."""

import io
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from keyvid.remarks import remark
from keyvid.runtime.media.sources import decoder_message

Chromaticities = tuple[float, ...]  # x and y of white, red, green and blue

_D65 = (0.3127, 0.3290)
_SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
# By the numbers of ITU-T H.273; 2 is "not said".
_PRIMARIES: dict[int, Chromaticities] = {
    1: _SRGB,
    2: _SRGB,
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_LINEAR, _PQ, _HLG = 8, 16, 18
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)  # curves for pictures that are shown as sRGB is
_POWERS = {4: 2.2, 5: 2.8}
_WHITE_NITS = 203.0  # of paper in a picture of high dynamic range (ITU-R BT.2408)
_SAME_GAMMA = 0.02  # of 1 / 2.2, by which files mean sRGB


class Coding(NamedTuple):
    """How a file says that its numbers mean colours; without a word they are sRGB.

    Attributes:
        profile: of ICC.
        cicp: primaries and transfer by the numbers of ITU-T H.273.
        gamma: a PNG's: numbers are light to this power.
        chromaticities: a PNG's.
    """

    profile: object = None
    cicp: tuple[int, int] | None = None
    gamma: float | None = None
    chromaticities: Chromaticities = _SRGB


def in_srgb(name: str, image: Image.Image, coding: Coding) -> Image.Image:
    """RGB or RGBA, its colours converted from what the file says that they are."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    if image.mode == "LAB":
        return _from_profile(name, image, mode, ImageCms.createProfile("LAB"))
    if coding.cicp is not None:
        return _from_cicp(name, image.convert(mode), *coding.cicp)
    if isinstance(coding.profile, bytes) and coding.profile:
        return _from_profile(name, image, mode, io.BytesIO(coding.profile))
    if coding.gamma is None or abs(coding.gamma - 1 / 2.2) < _SAME_GAMMA:
        return image.convert(mode)
    if not 0.1 <= coding.gamma <= 10:
        remark(f"{name}: its gamma of {coding.gamma:g} is ignored")
        return image.convert(mode)
    light = (np.arange(256) / 255) ** (1 / coding.gamma)
    return _converted(image.convert(mode), light, coding.chromaticities)


def _from_profile(name: str, image: Image.Image, mode: str, source: Any) -> Image.Image:
    try:
        found = ImageCms.getOpenProfile(source) if isinstance(source, io.BytesIO) else source
        alpha = image.getchannel("A") if mode == "RGBA" else None
        colours = image.convert("RGB") if alpha else image
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, found, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        remark(f"{name}: its colour profile is ignored ({decoder_message(error)})")
        return image.convert(mode)
    assert converted is not None  # it is only when it converts in place
    if alpha:
        converted.putalpha(alpha)
    return converted


def _from_cicp(name: str, image: Image.Image, primaries: int, transfer: int) -> Image.Image:
    if primaries not in _PRIMARIES:
        remark(f"{name}: its colours (primaries {primaries}) are taken as sRGB's")
    chromaticities = _PRIMARIES.get(primaries, _SRGB)
    signal = np.arange(256) / 255
    if transfer in _LIKE_SRGB:
        if chromaticities == _SRGB:
            return image
        light = _srgb_light(signal)
    elif transfer in (_PQ, _HLG):
        remark(
            f"{name}: is of high dynamic range; what is brighter in it than white paper is white"
        )
        light = (_pq_nits(signal) if transfer == _PQ else _hlg_nits(signal)) / _WHITE_NITS
    elif transfer == _LINEAR or transfer in _POWERS:
        light = signal ** _POWERS.get(transfer, 1.0)
    else:
        remark(f"{name}: its curve (transfer {transfer}) is taken as sRGB's")
        light = _srgb_light(signal)
    return _converted(image, light, chromaticities)


def _converted(
    image: Image.Image, light: npt.NDArray[np.float64], chromaticities: Chromaticities
) -> Image.Image:
    """RGB or RGBA in sRGB.

    Args:
        light: (256,) of each number, 1 is white.
    """
    pixels = np.array(image)
    linear = light[pixels[..., :3]]
    if chromaticities != _SRGB:
        try:
            change = np.linalg.solve(_to_xyz(_SRGB), _to_xyz(chromaticities))
        except (np.linalg.LinAlgError, ZeroDivisionError):  # no colours that can be
            change = np.eye(3)
        linear = linear @ (change / change.sum(axis=1, keepdims=True)).T  # white stays white
    linear = np.clip(np.nan_to_num(linear), 0.0, 1.0)
    signal = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels[..., :3] = np.round(255 * signal)
    return Image.fromarray(pixels)


def _to_xyz(chromaticities: Chromaticities) -> npt.NDArray[np.float64]:
    """(3, 3) from linear red, green and blue to X, Y and Z, white at Y = 1."""
    x, y = np.array(chromaticities).reshape(4, 2).T
    points = np.stack([x / y, np.ones(4), (1 - x - y) / y])
    amounts = np.linalg.solve(points[:, 1:], points[:, 0])
    xyz: npt.NDArray[np.float64] = points[:, 1:] * amounts
    return xyz


def _srgb_light(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def _pq_nits(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    nits: npt.NDArray[np.float64] = 10_000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (
        1 / m1
    )
    return nits


def _hlg_nits(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ITU-R BT.2100 on a display of 1,000 nits; its gamma of 1.2 taken channel by channel."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    nits: npt.NDArray[np.float64] = 1000 * scene**1.2
    return nits
