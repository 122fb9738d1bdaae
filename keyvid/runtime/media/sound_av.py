"""Sounds that FFmpeg reads, also those of videos: timestamps decide where each piece stands."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from keyvid.counting import counted
from keyvid.errors import MediaError
from keyvid.remarks import remark
from keyvid.runtime.media.arguments import LATEST_SECOND
from keyvid.runtime.media.ffmpeg import SOUND_CODECS, SOUND_CONTAINERS, open_container
from keyvid.runtime.media.ogg import has_links
from keyvid.runtime.media.sound_channels import kept_channels, mix
from keyvid.runtime.media.sound_timeline import (
    HIGHEST_RATE,
    Excerpt,
    Samples,
    Timeline,
    check_format,
    cut_off,
)
from keyvid.runtime.media.sound_tracks import choose_track, say_which
from keyvid.runtime.media.sources import decoder_message

_PREROLL = 0.5  # seconds decoded before the wanted start: a lossy codec needs them to settle
_MISSING = 0.1  # seconds at the end that an index may promise in vain
_LINK = 0.1  # seconds that an Ogg's time goes back where another link of the chain begins
_COUNTED = ("flac",)  # containers without an index whose header counts the samples


class Film(NamedTuple):
    """A file that FFmpeg reads, and which of its sounds is wanted.

    track: its number from 1, None for the default one.
    """

    file: IO[bytes]
    name: str
    track: int | None = None


class _Track(NamedTuple):
    """What a container says of its sound."""

    begin: float  # seconds on the container's clock at which the file's clock is 0
    duration: float | None  # seconds on the file's clock, if there is an index to know it from
    rate: int  # that is kept
    channels: int  # that are kept
    mixed: bool  # of more channels


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


def read(film: Film, seconds: float | None, start: float) -> Excerpt:
    """The wanted part of a sound; what cannot be decoded is silence, and a warning.

    Raises:
        MediaError: no sound in it, none that can be decoded, or its end is missing.
        SettingsError: it has no such track.
    """
    track = _survey(film)
    stop = LATEST_SECOND if seconds is None else start + seconds
    can_seek = start > _PREROLL and not has_links(film.file)
    heard = _listen(film, track, (start, stop), seek=can_seek)
    if can_seek and heard.first > start:  # there is no way to the start, or it led too far
        heard = _listen(film, track, (start, stop), seek=False)
    return _excerpt(film.name, track, heard, start, seconds)


def duration(film: Film) -> float:
    """Seconds from the beginning of the file's clock to the end of its sound."""
    track = _survey(film)
    if track.duration is not None:
        return track.duration
    with _opened(film) as (container, stream):
        end = track.begin
        for packet, link in _packets(container, stream):
            if not isinstance(packet, Exception) and packet.pts is not None:
                end = max(end, _seconds(packet, packet.pts + (packet.duration or 0)) + link)
        return end - track.begin


@contextmanager
def _opened(film: Film) -> Iterator[tuple[Any, Any]]:
    """A container and the sound in it that is wanted."""
    film.file.seek(0)
    try:
        with open_container(film.file, SOUND_CODECS, SOUND_CONTAINERS) as container:
            yield container, choose_track(container, film.name, film.track)
    except MemoryError:
        raise
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise MediaError(
            f"{film.name}: not a sound that can be read ({decoder_message(error)}); "
            "give a whole WAV, FLAC, OGG, MP3 or video file"
        ) from error


def _survey(film: Film) -> _Track:
    with _opened(film) as (container, stream):
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
        check_format(film.name, rate, channels)
        layout = _names(frame if frame else stream)
        length = None if end is None else end - begin
        return _Track(
            begin, length, min(rate, HIGHEST_RATE), kept_channels(layout), len(layout) > 2
        )


def _listen(film: Film, track: _Track, span: tuple[float, float], *, seek: bool) -> _Heard:
    """Decode what lies between two times; nothing if the file cannot be sought in."""
    start, stop = span
    heard = _Heard(Timeline(track.rate, track.channels))
    with _opened(film) as (container, stream):
        if film.track is None:
            say_which(container, film.name, stream)
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
                check_format(film.name, frame.sample_rate, frame.layout.nb_channels)
                samples = mix(_as_float(frame), _names(frame))
                heard.timeline.add(at, frame.sample_rate, samples)
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
    _say_what_is_missing(name, heard)
    length = track.duration
    if heard.at_end:
        if length is not None and heard.reached < length - _MISSING:
            raise cut_off(name, heard.reached)
        length = heard.timeline.end or heard.reached
    if track.mixed and len(samples):  # what is loud in many channels is beyond full scale in two
        samples /= max(1.0, float(np.abs(samples).max()))
    return Excerpt(samples, track.rate, length)


def _say_what_is_missing(name: str, heard: _Heard) -> None:
    if heard.damaged:
        remark(
            f"{name}: damaged at {min(heard.damaged):.2f} s, "
            f"{counted(len(heard.damaged), 'packet')} in all; what is lost is silence"
        )
    elif heard.timeline.gaps:
        (first, end), *others = heard.timeline.gaps
        more = f", and {len(others)} more such gaps" if others else ""
        remark(
            f"{name}: nothing is there from {first:.2f} s to {end:.2f} s{more}; silence stands "
            "for it"
        )


def _decode(container: Any, stream: Any, begin: float) -> Iterator[_Part]:
    """What comes of each packet, times counted from `begin`."""
    for packet, link in _packets(container, stream):
        if isinstance(packet, Exception):
            yield _Part(None, None, error=packet)
            continue
        at = None if packet.pts is None else _seconds(packet, packet.pts) + link - begin
        end = None if at is None else at + _seconds(packet, packet.duration or 0)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            yield _Part(at, end, error=error)
            continue
        for frame in frames:
            at = None if frame.time is None else frame.time + link - begin
            yield _Part(at, None if at is None else at + frame.samples / frame.sample_rate, frame)


def _packets(container: Any, stream: Any) -> Iterator[tuple[Any, float]]:
    """Packets, and the seconds to add to their times: where another link of an Ogg's chain begins.

    Where the container cannot be followed further the last one is an error in their place.
    """
    packets = _demuxed(container, stream)
    if container.format.name != "ogg":
        yield from ((packet, 0.0) for packet in packets)
        return
    link, reached = 0.0, -math.inf
    for packet in _placed_in_pages(packets):
        if not isinstance(packet, Exception) and packet.pts is not None:
            at = _seconds(packet, packet.pts) + link
            if at < reached - _LINK:
                link += reached - at
                at = reached
            reached = max(reached, at + _seconds(packet, packet.duration or 0))
        yield packet, link


def _demuxed(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, and as the last one the error that ended them."""
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        yield error


def _placed_in_pages(packets: Iterator[Any]) -> Iterator[Any]:
    """An Ogg's packets, each where its page says.

    After a page that is lost FFmpeg places the next page's first packet where the last one ended,
    and only the second one right.
    """
    held = None
    for packet in packets:
        if held is not None:
            if not isinstance(packet, Exception) and packet.pos == held.pos:
                _close_up(held, packet)
            yield held
        held = None if isinstance(packet, Exception) else packet
        if held is None:
            yield packet
    if held is not None:
        yield held


def _close_up(first: Any, second: Any) -> None:
    """Put a packet right before the next one of its page, if it lies far before that."""
    if first.pts is None or second.pts is None or not first.duration:
        return
    wanted = second.pts - first.duration
    if _seconds(first, wanted - first.pts) > _LINK:
        first.pts = first.dts = wanted


def _seconds(packet: Any, ticks: int) -> float:
    return float(ticks * packet.time_base)


def _names(audio: Any) -> list[str]:
    """Where the channels of a frame or a stream belong, as FFmpeg names it."""
    return [channel.name for channel in audio.layout.channels]


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
