"""Formats of pictures: those that are read, with which plugin, and how they say their colours."""

import struct
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import IO, NamedTuple

from PIL import Image

from keyvid.errors import MediaError
from keyvid.runtime.media.colour import Coding

# Names of formats and Pillow's modules for them, in the order in which they are tried: what is
# told by its first bytes before what is not. Pillow's others are left out: one starts a program
# (EPS), and nobody has pictures of most.
_MODULES = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",
    "MPO": "MpoImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "AVIF": "AvifImagePlugin",
    "BMP": "BmpImagePlugin",
    "DIB": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "PPM": "PpmImagePlugin",
    "QOI": "QoiImagePlugin",
    "PSD": "PsdImagePlugin",
    "ICO": "IcoImagePlugin",
    "TGA": "TgaImagePlugin",
}
_HEAD = 1 << 16  # bytes in which a file says what it is
_MOST_CHUNKS = 1000  # of a PNG before its pixels


class _Plugin(NamedTuple):
    """A package that makes Pillow read one more format."""

    format: str
    package: str
    register: Callable[[], object]


def _register_heif() -> None:
    heif = import_module("pillow_heif")
    heif.options.DECODE_THREADS = 1
    heif.register_heif_opener(thumbnails=False)


_PLUGINS = {
    "HEIC": _Plugin("HEIF", "pillow-heif", _register_heif),
    "JPEG XL": _Plugin("JXL", "pillow-jxl-plugin", lambda: import_module("pillow_jxl")),
}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
# What is known and not read, by first bytes.
_OTHERS = (
    (b"%!PS", "an EPS"),
    (b"\xc5\xd0\xd3\xc6", "an EPS"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG"),
    (b"<?xml", "an SVG or another XML file"),
    (b"gimp xcf", "a picture of GIMP"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance picture"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture"),
)


def formats_for(file: IO[bytes], name: str) -> list[str]:
    """The formats that a file is tried as: ours, or that of the plugin which it needs.

    Raises:
        MediaError: it needs a plugin that is not installed, or is of a format that is not read.
    """
    file.seek(0)
    head = file.read(_HEAD)
    kind = _plugin_for(head)
    if kind is None:
        for beginning, what in _OTHERS:
            if head.lstrip().startswith(beginning):
                raise MediaError(f"{name}: is {what}, which is not read; convert it to PNG")
        return _own_formats()
    plugin = _PLUGINS[kind]
    try:
        plugin.register()
    except ImportError:
        raise MediaError(
            f"{name}: is a {kind} picture; pip install {plugin.package} to have it read, "
            "or convert it to JPEG"
        ) from None
    return [plugin.format]


def coding_of(image: Image.Image, file: IO[bytes]) -> Coding:
    """How a picture's file says that its numbers mean colours."""
    info = image.info
    cicp = None
    if image.format == "PNG":
        cicp = _cicp_of_png(file)
    elif image.format == "AVIF":
        cicp = _cicp_of_avif(file)
    elif image.format == "HEIF" and info.get("nclx_profile"):
        nclx = info["nclx_profile"]
        cicp = nclx["color_primaries"], nclx["transfer_characteristics"]
    coding = Coding(info.get("icc_profile"), cicp)
    if image.format == "PNG" and "srgb" not in info and info.get("gamma"):
        coding = coding._replace(gamma=info["gamma"])
        if len(info.get("chromaticity", ())) == 8:
            coding = coding._replace(chromaticities=tuple(info["chromaticity"]))
    return coding


@cache
def _own_formats() -> list[str]:
    """Those of our list that this Pillow has."""
    for module in set(_MODULES.values()):
        try:
            import_module(f"PIL.{module}")
        except ImportError:  # an older Pillow has no AVIF
            continue
    return [name for name in _MODULES if name in Image.OPEN]


def _plugin_for(head: bytes) -> str | None:
    if head.startswith(_JXL):
        return "JPEG XL"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        brands = head[8 : int.from_bytes(head[:4], "big")]
        return None if b"avif" in brands else "HEIC"
    return None


def _cicp_of_png(file: IO[bytes]) -> tuple[int, int] | None:
    """What the chunk cICP says (PNG, third edition)."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        header = file.read(12)
        if len(header) < 12 or header[4:8] == b"IDAT":
            return None
        if header[4:8] == b"cICP":
            return header[8], header[9]
        at += 12 + int.from_bytes(header[:4], "big")
    return None


def _cicp_of_avif(file: IO[bytes]) -> tuple[int, int] | None:
    """What the first colour box says (ISO/IEC 23008-12), where it is no profile."""
    file.seek(0)
    head = file.read(_HEAD)
    at = head.find(b"colrnclx") + 8
    return struct.unpack(">HH", head[at : at + 4]) if 8 <= at <= len(head) - 4 else None
