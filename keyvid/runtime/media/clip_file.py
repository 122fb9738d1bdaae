"""A clip's file, read for what it says of its making; called in the process that decodes."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import IO, Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from keyvid.errors import MediaError
from keyvid.provenance.credentials import Credentials, read_credentials
from keyvid.provenance.likeness import picture_likeness, sound_levels
from keyvid.provenance.mark import TAG
from keyvid.provenance.receipt import Packets
from keyvid.runtime.media.carrier import COMMENT, read_xmp
from keyvid.runtime.media.ffmpeg import (
    FILM_CODECS,
    FILM_CONTAINERS,
    SOUND_CODECS,
    is_of,
    open_container,
)
from keyvid.runtime.media.packets import is_webp, packet_digests
from keyvid.runtime.media.sources import decoder_message

Result = tuple[dict[str, Any], np.ndarray | None]

_DURATION = "duration"  # of a picture in Pillow's `info`, in milliseconds


def inspect(file: IO[bytes], name: str) -> Result:
    """Comment, tag of the mark, XMP packet, and digests of the packets; nothing is decoded.

    Raises:
        MediaError: it is no clip.
    """
    try:
        tags = _tags(file)
        digests = packet_digests(file)
    except (ValueError, OSError, av.error.FFmpegError) as error:
        raise _unreadable(name, error) from error
    packets = {kind: asdict(Packets.of(found)) for kind, found in digests.items()}
    comment, tag = tags.get(COMMENT, ""), tags.get(TAG.lower(), "")
    return {"comment": comment, "tag": tag, "xmp": read_xmp(file), "packets": packets}, None


def credentials(file: IO[bytes], name: str, media_type: str) -> Result:
    """What the file's content credentials say; `found` is None where it has none."""
    found: Credentials | None = read_credentials(file, media_type)
    return {"found": None if found is None else vars(found)}, None


def pictures(file: IO[bytes], name: str, whole: bool) -> Result:
    """All pictures (F, H, W, 3) uint8, or their likeness (F, cells), and their times in seconds.

    Args:
        whole: whether the pictures themselves are wanted.
    Raises:
        MediaError: they cannot be decoded.
    """
    times: list[float] = []
    made: list[npt.NDArray[np.uint8]] = []
    try:
        for time, picture in _decoded(file):
            times.append(time)
            made.append(picture if whole else picture_likeness(picture))
    except (ValueError, OSError, av.error.FFmpegError) as error:
        raise _unreadable(name, error) from error
    if not made:
        raise MediaError(f"{name}: holds no pictures")
    stacked = np.stack(made)
    return {"shape": stacked.shape, "times": times}, stacked


def levels(file: IO[bytes], name: str, window: float) -> Result:
    """Levels of the sound in windows of so many seconds, see `sound_levels`.

    Raises:
        MediaError: it cannot be decoded.
    """
    file.seek(0)
    parts: list[npt.NDArray[np.float32]] = []
    try:
        with open_container(file, SOUND_CODECS, FILM_CONTAINERS) as container:
            streams = [one for one in container.streams.audio if is_of(one, SOUND_CODECS)]
            if not streams:
                raise MediaError(f"{name}: has no sound that can be read")
            rate = streams[0].rate
            resampler = av.AudioResampler(format="fltp", rate=rate)
            for frame in container.decode(streams[0]):
                for one in resampler.resample(frame):
                    parts.append(one.to_ndarray().astype(np.float32, copy=False))
    except (ValueError, OSError, av.error.FFmpegError) as error:
        raise _unreadable(name, error) from error
    samples = np.concatenate(parts, axis=1).T if parts else np.zeros((0, 1), np.float32)
    return {}, sound_levels(samples, rate, window)


def _tags(file: IO[bytes]) -> dict[str, str]:
    """Metadata of a file by names in small letters."""
    if is_webp(file):
        return {}
    file.seek(0)
    with open_container(file, (), FILM_CONTAINERS) as container:
        return {name.lower(): text for name, text in container.metadata.items()}


def _decoded(file: IO[bytes]) -> Iterator[tuple[float, npt.NDArray[np.uint8]]]:
    """Time and pixels of each picture."""
    webp = is_webp(file)
    file.seek(0)
    if webp:
        with Image.open(file) as image:
            time = 0.0
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                yield time, np.asarray(image.convert("RGB"))
                time += image.info.get(_DURATION, 0) / 1000
        return
    with open_container(file, FILM_CODECS, FILM_CONTAINERS) as container:
        streams = [one for one in container.streams.video if is_of(one, FILM_CODECS)]
        for frame in container.decode(streams[0]) if streams else ():
            yield float(frame.time or 0.0), frame.to_ndarray(format="rgb24")


def _unreadable(name: str, error: Exception) -> MediaError:
    return MediaError(f"{name}: cannot be read as a clip: {decoder_message(error)}")
