"""Sounds that libsndfile reads: exact to the sample, wherever one begins."""

import math
import re
from typing import IO

import numpy as np
import soundfile

from keyvid.runtime.media.sound_timeline import Excerpt, check_format, cut_off

# What libsndfile reads well, by first bytes. Of the rest, MP3s are cut at a guess of their length,
# and some readers print.
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"caff")
_STREAMED_BYTES = 0x7F000000  # sizes from here on stand in headers written to a pipe
_BLOCK = 1 << 18  # samples


def read(file: IO[bytes], name: str, seconds: float | None, start: float) -> Excerpt | None:
    """The wanted part of a sound, or None if FFmpeg should try.

    Raises:
        MediaError: the file is cut off.
    """
    try:
        with _open(file) as sound:
            rate = sound.samplerate
            check_format(name, rate, sound.channels)
            first = min(round(start * rate), sound.frames)
            available = sound.frames - first
            asked = available if seconds is None else math.ceil(seconds * rate)
            wanted = min(asked, available)
            sound.seek(first)
            blocks = [np.zeros((0, sound.channels), np.float32)]
            while wanted > 0:
                blocks.append(sound.read(min(wanted, _BLOCK), dtype="float32", always_2d=True))
                wanted -= len(blocks[-1]) or wanted + 1  # an empty block: no more will come
            samples = np.concatenate(blocks)
            if len(samples) < asked and _misses_data(sound.extra_info):
                raise cut_off(name, (first + len(samples)) / rate)
            if wanted < 0:  # damaged, and FFmpeg finds the way behind the damage
                return None
            return Excerpt(samples, rate, sound.frames / rate)
    except (soundfile.SoundFileError, ValueError):
        return None


def duration(file: IO[bytes]) -> float | None:
    """Seconds, or None if FFmpeg should tell."""
    try:
        with _open(file) as sound:
            return float(sound.frames / sound.samplerate)
    except (soundfile.SoundFileError, ValueError, ZeroDivisionError):
        return None


def _open(file: IO[bytes]) -> soundfile.SoundFile:
    file.seek(0)
    if file.read(4) not in _BEGINNINGS:
        raise ValueError("none of these formats")
    file.seek(0)
    return soundfile.SoundFile(file.fileno(), closefd=False)


def _misses_data(header_text: str) -> bool:
    """Whether libsndfile found clearly less data than the header promises."""
    sizes = re.findall(r": (\d+) \(should be (\d+)\)", header_text)
    return any(
        int(said) < _STREAMED_BYTES and int(found) < 0.98 * int(said) for said, found in sizes
    )
