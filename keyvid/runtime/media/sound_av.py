"""Sounds that FFmpeg reads, also those of videos: timestamps decide where each piece stands."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from keyvid.errors import MediaError
from keyvid.remarks import remark
from keyvid.runtime.media.arguments import LATEST_SECOND
from keyvid.runtime.media.sound_timeline import Excerpt, Samples, Timeline, check_format, cut_off
from keyvid.runtime.media.sources import decoder_message

_PREROLL = 0.5  # seconds decoded before the wanted start: a lossy codec needs them to settle
_MISSING = 0.1  # seconds at the end that an index may promise in vain
_COUNTED = ("flac",)  # containers without an index whose header counts the samples
_NO_NESTED_FILES = {"protocol_whitelist": "none"}  # a playlist must not open files or addresses


class _Track(NamedTuple):
    """What a container says of its sound."""

    begin: float  # seconds on the container's clock at which the file's clock is 0
    duration: float | None  # seconds on the file's clock, if there is an index to know it from
    rate: int
    channels: int


class _Part(NamedTuple):
    """What came of a packet: a frame, or an error. Times in seconds on the file's clock."""

    at: float | None
    end: float | None
    frame: Any = None
    error: Exception | None = None


@dataclass
class _Heard:
    """What decoding gave of the wanted part."""

    timeline: Timeline
    first: float = math.inf  # seconds, of the first frame
    reached: float = 0.0  # seconds, end of the last packet
    at_end: bool = True  # of the file
    damaged: list[float] = field(default_factory=list)  # seconds, of the packets that are
    error: Exception | None = None  # the last of theirs


def read(file: IO[bytes], name: str, seconds: float | None, start: float) -> Excerpt:
    """The wanted part of a sound; what cannot be decoded is silence, and a warning.

    Raises:
        MediaError: no sound in it, none that can be decoded, or its end is missing.
    """
    track = _survey(file, name)
    stop = LATEST_SECOND if seconds is None else start + seconds
    heard = _listen(file, name, track, (start, stop), seek=start > _PREROLL)
    if start > _PREROLL and heard.first > start:  # there is no way to the start, or it led too far
        heard = _listen(file, name, track, (start, stop), seek=False)
    return _excerpt(name, track, heard, start, seconds)


def duration(file: IO[bytes], name: str) -> float:
    """Seconds from the beginning of the file's clock to the end of its sound."""
    track = _survey(file, name)
    if track.duration is not None:
        return track.duration
    with _opened(file, name) as (container, stream):
        end = track.begin
        for packet in _packets(container, stream):
            if not isinstance(packet, Exception) and packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        return end - track.begin


@contextmanager
def _opened(file: IO[bytes], name: str) -> Iterator[tuple[Any, Any]]:
    """A container and its first sound for which there is a decoder."""
    file.seek(0)
    try:
        with av.open(file, metadata_errors="replace", options=_NO_NESTED_FILES) as container:
            sounds = container.streams.audio
            if not sounds:
                raise MediaError(f"{name}: has no sound; give a sound, or a video that has one")
            known = [stream for stream in sounds if stream.codec_context is not None]
            if not known:
                raise MediaError(
                    f"{name}: its sound has a codec that is not known here; convert it to WAV"
                )
            yield container, known[0]
    except (OSError, ValueError, MemoryError, av.error.FFmpegError) as error:
        raise MediaError(
            f"{name}: not a sound that can be read ({decoder_message(error)}); "
            "give a whole WAV, FLAC, OGG, MP3 or video file"
        ) from error


def _survey(file: IO[bytes], name: str) -> _Track:
    with _opened(file, name) as (container, stream):
        parts = _decode(container, stream, 0.0)
        first = next((part for part in parts if part.frame is not None or part.error), None)
        # A damaged first packet has no frame; a whole one may begin with samples that are no sound.
        begin = float((stream.start_time or 0) * stream.time_base)
        if first and first.frame is not None and first.at is not None:
            begin = first.at
        end = None
        counted = stream.frames or container.format.name in _COUNTED
        if counted and stream.duration:
            end = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        for picture in container.streams.video:
            is_cover = picture.disposition & av.stream.Disposition.attached_pic
            if picture.start_time is not None and not is_cover:
                begin = min(begin, float(picture.start_time * picture.time_base))
        frame = first.frame if first else None
        rate = stream.rate or (frame.sample_rate if frame else 0)
        channels = stream.channels or (frame.layout.nb_channels if frame else 0)
        check_format(name, rate, channels)
        return _Track(begin, None if end is None else end - begin, rate, channels)


def _listen(
    file: IO[bytes], name: str, track: _Track, span: tuple[float, float], *, seek: bool
) -> _Heard:
    """Decode what lies between two times; nothing if the file cannot be sought in."""
    start, stop = span
    heard = _Heard(Timeline(track.rate, track.channels))
    with _opened(file, name) as (container, stream):
        if seek:
            target = int((track.begin + start - _PREROLL) / stream.time_base)
            try:
                container.seek(target, stream=stream)
            except (av.error.FFmpegError, OverflowError):
                return heard
        for at, end, frame, error in _decode(container, stream, track.begin):
            if at is not None and at >= stop:
                heard.at_end = False
                break
            heard.reached = max(heard.reached, end or 0.0)
            if error:
                heard.error = error
                if at is None or end is None or end > start:
                    heard.damaged.append(heard.reached if at is None else at)
            elif end is None or end > start:
                check_format(name, frame.sample_rate, frame.layout.nb_channels)
                heard.timeline.add(at, frame.sample_rate, _as_float(frame))
            if frame is not None and at is not None:
                heard.first = min(heard.first, at)
    return heard


def _excerpt(
    name: str, track: _Track, heard: _Heard, start: float, seconds: float | None
) -> Excerpt:
    samples = heard.timeline.cut(start, seconds)
    if heard.damaged and not len(samples):
        assert heard.error is not None
        raise MediaError(
            f"{name}: no part of the sound can be decoded ({decoder_message(heard.error)}); "
            "give a whole WAV, FLAC, OGG, MP3 or video file"
        )
    if heard.damaged:
        remark(
            f"{name}: damaged at {min(heard.damaged):.2f} s, {len(heard.damaged)} packets in all; "
            "what is lost is silence"
        )
    length = track.duration
    if heard.at_end:
        if length is not None and heard.reached < length - _MISSING:
            raise cut_off(name, heard.reached)
        length = heard.timeline.end or heard.reached
    return Excerpt(samples, track.rate, length)


def _decode(container: Any, stream: Any, begin: float) -> Iterator[_Part]:
    """What comes of each packet, times counted from `begin`."""
    for packet in _packets(container, stream):
        if isinstance(packet, Exception):
            yield _Part(None, None, error=packet)
            continue
        at = None if packet.pts is None else float(packet.pts * packet.time_base) - begin
        end = None if at is None else at + float((packet.duration or 0) * packet.time_base)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            yield _Part(at, end, error=error)
            continue
        for frame in frames:
            at = None if frame.time is None else frame.time - begin
            yield _Part(at, None if at is None else at + frame.samples / frame.sample_rate, frame)


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets; an error in their place where the container cannot be followed further."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            yield error
            return


def _as_float(frame: Any) -> Samples:
    """(n, channels) of -1 to 1."""
    # (channels, n), or (1, n * channels) where they are interleaved
    samples: npt.NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    scale, middle = 1.0, 0.0
    if samples.dtype.kind == "u":
        scale = middle = 128.0
    elif samples.dtype.kind == "i":
        scale = -float(np.iinfo(samples.dtype).min)
    return ((samples.T - middle) / scale).astype(np.float32)
