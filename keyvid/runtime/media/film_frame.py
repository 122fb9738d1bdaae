"""The first frame of a film, as a picture."""

from typing import IO, Any

import av
from PIL import Image

from keyvid.errors import MediaError
from keyvid.runtime.media.colour import Coding
from keyvid.runtime.media.ffmpeg import (
    FILM_CODECS,
    FILM_CONTAINERS,
    MOST_PIXELS,
    is_of,
    open_container,
)
from keyvid.runtime.media.sources import decoder_message

_NOT_SAID = 2  # of ITU-T H.273
_HIGH = 720  # rows from which on films that do not say it are coded by BT.709


def read_frame(file: IO[bytes], name: str) -> tuple[Image.Image, Coding] | None:
    """The first frame, upright and of square pixels; None if the file is no film.

    Raises:
        MediaError: the film has no picture that can be decoded, or a larger one.
    """
    file.seek(0)
    try:
        with open_container(file, FILM_CODECS, FILM_CONTAINERS) as container:
            stream = _film_of(container, name)
            if stream.width * stream.height > MOST_PIXELS:
                raise MediaError(f"{name}: has more than {MOST_PIXELS:,} pixels; shrink it first")
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            frame = _first_frame(container, stream, name)
            return _as_image(frame, stream), _coding(stream.codec_context)
    except MemoryError:
        raise
    except (OSError, ValueError, av.error.FFmpegError):
        return None


def size(file: IO[bytes], name: str) -> tuple[int, int] | None:
    """Width and height by the header; None if the file is no film.

    Raises:
        MediaError: the film has no picture that can be decoded.
    """
    file.seek(0)
    try:
        with open_container(file, (), FILM_CONTAINERS) as container:
            stream = _film_of(container, name)
            return stream.width, stream.height
    except (OSError, ValueError, av.error.FFmpegError):
        return None


def _film_of(container: Any, name: str) -> Any:
    known = [stream for stream in container.streams.video if is_of(stream, FILM_CODECS)]
    if not known:
        raise MediaError(f"{name}: has no picture that can be read; give a picture")
    return known[0]


def _first_frame(container: Any, stream: Any, name: str) -> Any:
    try:
        frame = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
        reason = decoder_message(error)
        raise MediaError(
            f"{name}: is a film that cannot be decoded ({reason}), or of more than "
            f"{MOST_PIXELS:,} pixels; give a picture"
        ) from error
    if frame is None:
        raise MediaError(f"{name}: is a film without a frame; give a picture")
    return frame


def _as_image(frame: Any, stream: Any) -> Image.Image:
    space = None
    if frame.colorspace == _NOT_SAID and frame.height >= _HIGH:
        space = "ITU709"
    image = Image.fromarray(frame.reformat(format="rgb24", src_colorspace=space).to_ndarray())
    shape = stream.sample_aspect_ratio
    if shape and 0.1 < shape < 10 and shape != 1:
        image = image.resize((max(1, round(image.width * shape)), image.height))
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _coding(decoder: Any) -> Coding:
    """What the film's decoder found of its colours."""
    return Coding(cicp=(int(decoder.color_primaries), int(decoder.color_trc)))
