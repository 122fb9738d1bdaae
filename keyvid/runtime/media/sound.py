"""Sounds in: the wanted part of any sound, as it is and as a network hears it."""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from keyvid.errors import MediaError
from keyvid.remarks import remark
from keyvid.runtime.media import isolation
from keyvid.runtime.media.arguments import parse_time
from keyvid.runtime.media.sound_channels import mix
from keyvid.runtime.media.sound_timeline import (
    HIGHEST_RATE,
    MOST_CHANNELS,
    Excerpt,
    check_format,
    resample,
)
from keyvid.runtime.media.sound_tracks import check_count, check_track
from keyvid.runtime.media.sources import FileSource, open_source

AudioSource = FileSource | tuple[Any, Any]

# What is silence and what is full scale in whole numbers, as WAV files have them.
_FULL_SCALE = {
    np.dtype(np.uint8): (128, 128),
    np.dtype(np.int16): (0, 2**15),
    np.dtype(np.int32): (0, 2**31),
}
_SILENCE = 1e-4  # of full scale: nothing that 16 bits could tell from noise
_LOUDEST = 100.0  # times full scale: beyond it the samples are integers in disguise
_LONGEST = 3600.0  # seconds of a part for which more is allowed
_COST = 0.02  # seconds of computing that a second of a long part may take
_CANCELLED = 0.1  # of a channel: what a mix of channels that say the same cannot fall to


class Sound(NamedTuple):
    """A sound as it was given: (n, channels) float32, and its samples per second."""

    samples: npt.NDArray[np.float32]
    rate: int


def load_sound(
    source: AudioSource, seconds: float, start: float = 0.0, track: int | None = None
) -> Sound:
    """A part of a sound, padded with silence where it ends earlier.

    More than two channels are mixed into two, by where their loudspeakers stand; a rate beyond
    48 kHz becomes 48 kHz.

    Args:
        source: a file that libsndfile or FFmpeg decodes (also a video) by its name, "-" for
            standard input, its bytes, an open file, or samples and their rate in either order.
            Samples are floats of -1 to 1, or int16, int32 or uint8 as WAV files have them, (n,),
            (n, channels) or (channels, n), of anything that NumPy takes as an array.
        seconds: wanted length.
        start: seconds on the file's clock, which begins with its sound or its picture, whichever
            is first.
        track: which of a file's sounds, from 1; None for the one that it says is the default.
    Raises:
        MediaError: what is wrong with the sound.
        SettingsError: `start` is not a time, or there is no such track.
    """
    start = parse_time(start)
    name, excerpt = _read(source, seconds, start, track)
    _check_excerpt(name, excerpt, start)
    _say_what_is_used(name, excerpt, seconds, start)
    missing = math.ceil(seconds * excerpt.rate) - len(excerpt.samples)
    return Sound(np.pad(excerpt.samples, ((0, max(missing, 0)), (0, 0))), excerpt.rate)


def read_sound(
    source: AudioSource,
    seconds: float | None = None,
    start: float = 0.0,
    track: int | None = None,
) -> Excerpt:
    """A part of a sound as long as the sound has it; only the part is decoded and held in memory.

    Parts of one sound have the same rate and channels, and follow each other without a seam in
    formats without loss.

    Args:
        seconds: wanted length, None for all that follows.
    Raises:
        MediaError, SettingsError: as `load_sound`; also where nothing is left at `start`.
    """
    start = parse_time(start)
    name, excerpt = _read(source, seconds, start, track)
    _check_excerpt(name, excerpt, start)
    return excerpt


def sound_duration(source: AudioSource, track: int | None = None) -> float:
    """Seconds from the beginning of a file's clock to the end of its sound.

    Where no header says it, the file is read through, but nothing is decoded.
    """
    track = check_track(track)
    if isinstance(source, list) or hasattr(source, "__array__"):
        raise MediaError(
            f"audio is a {type(source).__name__} without its rate; give (samples, rate)"
        )
    if isinstance(source, tuple):
        samples, rate = _as_samples(source)
        return len(samples) / rate
    with open_source(source, "sound") as (name, file):
        answer = isolation.decode("sound_duration", file, name, track=track)
        return float(answer.values["duration"])


def to_mono(sound: Sound, sample_rate: int, seconds: float) -> npt.NDArray[np.float32]:
    """The sound as a network hears it: (round(seconds * sample_rate),) float32.

    The mean of the channels; the loudest one alone where they cancel each other.
    """
    mono = sound.samples.mean(axis=1, dtype=np.float32)
    if sound.samples.shape[1] > 1:
        loudness = np.sqrt(np.square(sound.samples).mean(axis=0))
        loudest = int(loudness.argmax())
        if np.sqrt(np.square(mono).mean()) < _CANCELLED * loudness[loudest]:
            remark(
                "the channels of the sound cancel each other when they are mixed: "
                f"channel {loudest + 1} of {len(loudness)} is heard alone"
            )
            mono = np.ascontiguousarray(sound.samples[:, loudest])
    wanted = round(seconds * sample_rate)
    mono = resample(mono[:, None], sound.rate, sample_rate)[:wanted, 0]
    return np.pad(mono, (0, wanted - len(mono)))


def _read(
    source: AudioSource, seconds: float | None, start: float, track: int | None
) -> tuple[str, Excerpt]:
    """The name of a sound in messages, and the part that it has of what is wanted."""
    track = check_track(track)
    if isinstance(source, list) or hasattr(source, "__array__"):
        raise MediaError(
            f"audio is a {type(source).__name__} without its rate; give (samples, rate)"
        )
    if isinstance(source, tuple):
        samples, rate = _as_samples(source)
        check_count("audio samples", track or 1, 1)
        first = round(start * rate)
        stop = None if seconds is None else first + math.ceil(seconds * rate)
        wanted = mix(samples[first:stop].astype(np.float32), ())
        kept_rate = min(rate, HIGHEST_RATE)
        excerpt = Excerpt(resample(wanted, rate, kept_rate), kept_rate, len(samples) / rate)
        return "audio samples", excerpt
    with open_source(source, "sound") as (name, file):
        answer = isolation.decode(
            "sound",
            file,
            name,
            _limits(seconds),
            seconds=seconds,
            start=start,
            track=track,
        )
    values = answer.values
    samples = np.frombuffer(answer.content, np.float32).reshape(values["shape"])
    return name, Excerpt(samples, values["rate"], values["duration"])


def _limits(seconds: float | None) -> isolation.Limits:
    """What decoding may take: more for a long part than what is enough for a short one."""
    base = isolation.Limits()
    seconds = _LONGEST if seconds is None else min(seconds, _LONGEST)
    copies = 3 * round(seconds * HIGHEST_RATE) * 2 * np.dtype(np.float32).itemsize
    return isolation.Limits(base.seconds + seconds * _COST, base.memory + copies)


def _as_samples(source: tuple[Any, ...]) -> tuple[npt.NDArray[np.floating[Any]], int]:
    """Samples (n, channels) and their rate."""
    if len(source) != 2:
        raise MediaError(f"audio is a tuple of {len(source)}; expected (samples, rate)")
    try:
        samples, given = np.asarray(source[0]), source[1]
        if samples.ndim == 0:  # (rate, samples), as SciPy and Gradio have it
            samples, given = np.asarray(source[1]), source[0]
        rate = float(given)
    except Exception as error:  # whatever an object raises that will not be an array
        raise MediaError(
            f"audio is not (samples, rate): {' '.join(str(error).split())[:100]}; "
            "give an array of floats and a number"
        ) from error
    if samples.dtype in _FULL_SCALE:
        zero, one = _FULL_SCALE[samples.dtype]
        samples = (samples.astype(np.float64) - zero) / one
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f" or not 0 < rate < math.inf:
        raise MediaError(
            f"audio samples are {samples.dtype} {samples.shape} at {rate:g} Hz, expected floats of "
            "-1 to 1, int16, int32 or uint8, (n,) or (n, channels), at a positive rate"
        )
    if rate != round(rate):
        raise MediaError(f"audio rate is {rate:g} Hz, expected a whole number; resample the sound")
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] <= MOST_CHANNELS < samples.shape[1]:
        samples = samples.T  # (channels, n): as many channels as samples there are not
    check_format("audio samples", round(rate), samples.shape[1])
    return samples, round(rate)


def _check_excerpt(name: str, excerpt: Excerpt, start: float) -> None:
    samples, rate, duration = excerpt
    if not samples.size:
        if not start:
            raise MediaError(f"{name}: holds no sound (0 samples); give one that does")
        length = "" if duration is None else f", which lasts {duration:.2f} s"
        raise MediaError(
            f"{name}: start is {start:g} s, beyond the end of the sound{length}; start earlier"
        )
    bad = ~np.isfinite(samples).all(axis=1)
    if bad.any():
        at = start + float(np.argmax(bad)) / rate
        raise MediaError(
            f"{name}: {bad.sum()} samples are NaN or infinite, the first at {at:.3f} s; "
            "repair or convert the sound"
        )
    peak = float(np.abs(samples).max())
    if peak > _LOUDEST:
        raise MediaError(f"{name}: samples reach {peak:g}, expected -1 to 1; divide them")


def _say_what_is_used(name: str, excerpt: Excerpt, seconds: float, start: float) -> None:
    samples, rate, duration = excerpt
    if np.abs(samples).max() < _SILENCE:
        remark(f"{name}: silent, so nothing tells the picture when to move")
    found = len(samples) / rate
    if found < seconds - 0.001:
        remark(f"{name}: {found:.2f} s of sound, the rest of {seconds:g} s is silence")
    elif duration is not None and duration > start + seconds + 0.001:
        end = start + seconds
        remark(f"{name}: lasts {duration:.2f} s, used from {start:g} s to {end:g} s")
