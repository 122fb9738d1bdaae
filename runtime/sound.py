"""Sounds in: the wanted part of any file, as it is and as a network hears it."""

import logging
import math
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
import soundfile

from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.sources import check_file, decoder_message

AudioSource = str | os.PathLike[str] | tuple[npt.NDArray[np.float32], int]

_PREROLL_SECONDS = 0.2  # decoded before the wanted start: a lossy codec needs it to settle
_STREAMED_BYTES = 0x7F000000  # sizes from here on stand in headers written to a pipe
_NO_NESTED_FILES = {"protocol_whitelist": "none"}  # a playlist must not open files or addresses
_RATES = (1_000, 1_000_000)  # Hz; beyond it a header is wrong
_SILENCE = 1e-4  # of full scale: nothing that 16 bits could tell from noise

log = logging.getLogger(__name__)


class _Excerpt(NamedTuple):
    """The wanted part of a sound, as the file has it."""

    samples: npt.NDArray[np.float32]  # (n, channels)
    rate: int
    duration: float | None  # seconds, of the whole sound, if the file says it


class Sound(NamedTuple):
    """A sound as it was given: (n, channels) float32, and its samples per second."""

    samples: npt.NDArray[np.float32]
    rate: int


def load_sound(source: AudioSource, seconds: float, start: float = 0.0) -> Sound:
    """A part of a sound, padded with silence where it ends earlier.

    Args:
        source: a file that soundfile or PyAV decodes (also a video), or samples (n,) or
            (n, channels) of -1 to 1 and their rate.
        seconds: wanted length.
        start: seconds from the sound's first sample.
    Raises:
        MediaError: what is wrong with the sound.
        SettingsError: `start` is not a time.
    """
    if not (math.isfinite(start) and start >= 0):
        raise SettingsError(f"start is {start} s; expected 0 or more")
    if isinstance(source, tuple):
        name, excerpt = "audio samples", _cut_samples(*source, seconds, start)
    else:
        path = Path(source)
        check_file(path)
        name = str(path)
        excerpt = _read_soundfile(path, seconds, start) or _read_av(path, seconds, start)
    _check_excerpt(name, excerpt, seconds, start)
    missing = math.ceil(seconds * excerpt.rate) - len(excerpt.samples)
    return Sound(np.pad(excerpt.samples, ((0, max(missing, 0)), (0, 0))), excerpt.rate)


def to_mono(sound: Sound, sample_rate: int, seconds: float) -> npt.NDArray[np.float32]:
    """The sound as a network hears it: (round(seconds * sample_rate),) float32."""
    mono = sound.samples.mean(axis=1, dtype=np.float32)
    mono = _resample(mono, sound.rate, sample_rate)[: round(seconds * sample_rate)]
    return np.pad(mono, (0, round(seconds * sample_rate) - len(mono)))


def _check_excerpt(name: str, excerpt: _Excerpt, seconds: float, start: float) -> None:
    samples, rate, duration = excerpt
    if not len(samples):
        if not start:
            raise MediaError(f"{name}: holds no sound (0 samples); give one that does")
        length = "" if duration is None else f", which lasts {duration:.2f} s"
        raise MediaError(
            f"{name}: start is {start:g} s, beyond the end of the sound{length}; start earlier"
        )
    if not _RATES[0] <= rate <= _RATES[1]:
        raise MediaError(
            f"{name}: {rate} samples per second, expected {_RATES[0]} to {_RATES[1]}; "
            "convert the sound"
        )
    bad = ~np.isfinite(samples).all(axis=1)
    if bad.any():
        at = start + float(np.argmax(bad)) / rate
        raise MediaError(
            f"{name}: {bad.sum()} samples are NaN or infinite, the first at {at:.3f} s; "
            "repair or convert the sound"
        )
    if np.abs(samples).max() < _SILENCE:
        log.warning("%s: silent, so nothing tells the picture when to move", name)
    found = len(samples) / rate
    if found < seconds - 0.001:
        log.warning("%s: %.2f s of sound, the rest of %g s is silence", name, found, seconds)
    elif duration is not None and duration > start + seconds + 0.001:
        log.warning(
            "%s: lasts %.2f s, used from %g s to %g s", name, duration, start, start + seconds
        )


def _cut_samples(
    samples: npt.NDArray[np.float32], rate: int, seconds: float, start: float
) -> _Excerpt:
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f" or rate <= 0:
        raise MediaError(
            f"audio samples are {samples.dtype} {samples.shape} at {rate} Hz, "
            "expected floats (n,) or (n, channels) at a positive rate"
        )
    first, count = round(start * rate), math.ceil(seconds * rate)
    wanted = samples.reshape(len(samples), -1)[first : first + count]
    return _Excerpt(wanted.astype(np.float32), rate, len(samples) / rate)


def _read_soundfile(path: Path, seconds: float, start: float) -> _Excerpt | None:
    """What libsndfile reads of a file, or None if the format is for PyAV."""
    try:
        with soundfile.SoundFile(path) as sound:
            if sound.format == "MP3":  # libsndfile stops at a guess of the length
                return None
            rate, duration = sound.samplerate, sound.frames / sound.samplerate
            first = min(round(start * rate), sound.frames)
            wanted = min(math.ceil(seconds * rate), sound.frames - first)
            sound.seek(first)
            samples = sound.read(wanted, dtype="float32", always_2d=True)
            cut_off = _misses_data(sound.extra_info) and len(samples) < math.ceil(seconds * rate)
    except (soundfile.SoundFileError, TypeError):  # TypeError: headerless, by the name
        return None
    if cut_off or len(samples) < wanted:
        raise _cut_off(path, (first + len(samples)) / rate)
    return _Excerpt(samples, rate, duration)


def _misses_data(header_text: str) -> bool:
    """Whether libsndfile found clearly less data than the header promises."""
    sizes = re.findall(r": (\d+) \(should be (\d+)\)", header_text)
    return any(
        int(said) < _STREAMED_BYTES and int(found) < 0.98 * int(said) for said, found in sizes
    )


def _read_av(path: Path, seconds: float, start: float) -> _Excerpt:
    """What FFmpeg reads of a file, a video's sound too.

    Raises:
        MediaError: no sound in it, or not readable.
    """
    try:
        with (
            open(path, "rb") as file,
            av.open(file, metadata_errors="replace", options=_NO_NESTED_FILES) as container,
        ):
            if not container.streams.audio:
                raise MediaError(f"{path}: has no sound; give a sound, or a video that has one")
            return _decode(path, container, container.streams.audio[0], seconds, start)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise MediaError(
            f"{path}: not a sound that can be read ({decoder_message(path, error)}); "
            "give a whole WAV, FLAC, OGG, MP3 or video file"
        ) from error


def _decode(path: Path, container: Any, stream: Any, seconds: float, start: float) -> _Excerpt:
    begin = float((stream.start_time or 0) * stream.time_base)  # of the first sample
    if start > _PREROLL_SECONDS:
        container.seek(int((begin + start - _PREROLL_SECONDS) / stream.time_base), stream=stream)
    to_float = av.AudioResampler(format="fltp")
    chunks: list[npt.NDArray[np.float32]] = []  # (n, channels) each
    at, rate, missing = start, stream.rate, 1
    for frame in container.decode(stream):
        if not chunks:  # the seek went to some earlier frame
            at = 0.0 if frame.time is None else frame.time - begin
            rate = frame.sample_rate
            missing = round((start + seconds - at) * rate)
        chunks += [part.to_ndarray().T.astype(np.float32) for part in to_float.resample(frame)]
        missing -= frame.samples
        if missing <= 0:
            break
    samples = np.concatenate(chunks) if chunks else np.zeros((0, 1), np.float32)
    # Only a container with an index knows its length; elsewhere it is a guess from the bit rate.
    known = bool(stream.frames and stream.duration)
    duration = float(stream.duration * stream.time_base) if known else None
    if missing > 0 and chunks:
        end = at + len(samples) / rate
        if duration is not None and end < duration - 0.1:
            raise _cut_off(path, end)
        duration = end
    first = max(0, round((start - at) * rate))
    return _Excerpt(samples[first : first + math.ceil(seconds * rate)], rate, duration)


def _resample(
    mono: npt.NDArray[np.float32], rate: int, sample_rate: int
) -> npt.NDArray[np.float32]:
    """(n,) at `rate` Hz as (about n * sample_rate / rate,) at `sample_rate` Hz, band-limited."""
    if rate == sample_rate:
        return mono
    frame = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in frames])


def _cut_off(path: Path, end: float) -> MediaError:
    return MediaError(f"{path}: is cut off at {end:.2f} s; give the whole file")
