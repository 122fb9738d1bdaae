"""Sounds that libsndfile reads: exact to the sample, wherever one begins."""

import math
import os
import re
from typing import IO

import numpy as np
import soundfile

from keyvid.runtime.media.sound_timeline import (
    HIGHEST_RATE,
    Excerpt,
    Resampler,
    Samples,
    check_format,
    cut_off,
)

# What libsndfile reads well, by first bytes. Of the rest, MP3s are cut at a guess of their length,
# Ogg's timestamps and chained links are not heeded, and some readers print.
_BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b".snd", b"caff")
_STREAMED_BYTES = 0x7F000000  # sizes from here on stand in headers written to a pipe
_HEADER = 4096  # bytes in which a WAV file comes to its samples
_MOST_FRAMES = 1 << 48  # beyond it a header does not know how many there are
_BLOCK = 1 << 18  # samples
_MARGIN = 0.05  # seconds on both sides of what is resampled, so that parts have no seam


def read(file: IO[bytes], name: str, seconds: float | None, start: float) -> Excerpt | None:
    """The wanted part of a sound, or None if FFmpeg should try.

    Raises:
        MediaError: the file is cut off.
    """
    try:
        with _open(file) as sound:
            rate = sound.samplerate
            check_format(name, rate, sound.channels)
            kept_rate = min(rate, HIGHEST_RATE)
            margin = 0 if rate == kept_rate else round(_MARGIN * rate)
            first = min(round(start * rate), sound.frames)
            asked = sound.frames - first if seconds is None else math.ceil(seconds * rate)
            wanted = min(asked, sound.frames - first)
            before = min(margin, first)
            samples, found = _read_frames(
                sound, first - before, before + wanted + margin, kept_rate
            )
            found = min(max(found - before, 0), wanted)
            if found < asked and _misses_data(sound.extra_info):
                raise cut_off(name, (first + found) / rate)
            if found < wanted:  # damaged, and FFmpeg finds the way behind the damage
                return None
            before = round(before * kept_rate / rate)
            wanted = math.ceil(wanted * kept_rate / rate)
            return Excerpt(samples[before : before + wanted], kept_rate, sound.frames / rate)
    except (soundfile.SoundFileError, ValueError):
        return None


def duration(file: IO[bytes]) -> float | None:
    """Seconds, or None if FFmpeg should tell."""
    try:
        with _open(file) as sound:
            return float(sound.frames / sound.samplerate)
    except (soundfile.SoundFileError, ValueError, ZeroDivisionError):
        return None


def is_unfinished(file: IO[bytes]) -> bool:
    """Whether a WAV file has samples that its header does not know of: it was not ended."""
    file.seek(0)
    header = file.read(_HEADER)
    data = header.find(b"data") + 4
    if header[:4] != b"RIFF" or data < 4 or header[data : data + 4] != bytes(4):
        return False
    riff_bytes = int.from_bytes(header[4:8], "little")
    return riff_bytes + 8 < os.fstat(file.fileno()).st_size


def _open(file: IO[bytes]) -> soundfile.SoundFile:
    """A sound of one or two channels whose length is known.

    Raises:
        ValueError: it is none of these.
    """
    file.seek(0)
    if file.read(4) not in _BEGINNINGS:
        raise ValueError("none of these formats")
    file.seek(0)
    sound = soundfile.SoundFile(file.fileno(), closefd=False)
    unknown = sound.frames > _MOST_FRAMES or (not sound.frames and is_unfinished(file))
    if unknown or sound.channels > 2:  # FFmpeg knows where channels belong
        sound.close()
        raise ValueError("FFmpeg knows more of it")
    return sound


def _read_frames(
    sound: soundfile.SoundFile, first: int, wanted: int, kept_rate: int
) -> tuple[Samples, int]:
    """(n, channels) at `kept_rate`, and of how many frames: fewer where no more will come."""
    sound.seek(first)
    resampler = Resampler(sound.samplerate, kept_rate, sound.channels)
    blocks = [np.zeros((0, sound.channels), np.float32)]
    found = 0
    while found < wanted:
        block = sound.read(min(wanted - found, _BLOCK), dtype="float32", always_2d=True)
        if not len(block):
            break
        found += len(block)
        blocks.append(resampler.add(block))
    return np.concatenate([*blocks, resampler.finish()]), found


def _misses_data(header_text: str) -> bool:
    """Whether libsndfile found clearly less data than the header promises."""
    sizes = re.findall(r": (\d+) \(should be (\d+)\)", header_text)
    return any(
        int(said) < _STREAMED_BYTES and int(found) < 0.98 * int(said) for said, found in sizes
    )
