"""Where decoded pieces of a sound stand in time, and the sound that they make together."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from keyvid.errors import MediaError

MOST_CHANNELS = 64

_RATES = (1_000, 1_000_000)  # Hz; beyond it a header is wrong
_JITTER = 0.02  # seconds, half a frame: what timestamps may be off where nothing is missing

Samples = npt.NDArray[np.float32]


class Excerpt(NamedTuple):
    """The wanted part of a sound, as the file has it.

    Attributes:
        samples: (n, channels) float32; fewer than wanted where the sound ends.
        rate: samples per second.
        duration: seconds of the whole sound, None where only reading it through would tell.
    """

    samples: Samples
    rate: int
    duration: float | None


@dataclass
class _Stretch:
    """Pieces of one rate that follow each other without a gap."""

    at: float  # seconds
    rate: int
    pieces: list[Samples] = field(default_factory=list)
    num_samples: int = 0

    @property
    def end(self) -> float:
        return self.at + self.num_samples / self.rate


class Timeline:
    """Pieces of a sound, placed where their timestamps say; silence where there are none.

    Args:
        rate, channels: of the sound that is made of them.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self.channels = channels
        self._stretches: list[_Stretch] = []

    @property
    def end(self) -> float | None:
        """Seconds; None without a piece."""
        return max((stretch.end for stretch in self._stretches), default=None)

    def add(self, at: float | None, rate: int, samples: Samples) -> None:
        """Place (n, any channels) of `rate` at a time in seconds, None for where the last ended."""
        last = self._stretches[-1] if self._stretches else None
        if at is None:
            at = last.end if last else 0.0
        if last is None or last.rate != rate or abs(at - last.end) > _JITTER:
            last = _Stretch(at, rate)
            self._stretches.append(last)
        last.pieces.append(_with_channels(samples, self.channels))
        last.num_samples += len(samples)

    def cut(self, start: float, seconds: float | None) -> Samples:
        """(n, channels) from `start` on, to the end of the sound or for `seconds`."""
        end = max(self.end or start, start)
        if seconds is not None:
            end = min(end, start + seconds)
        samples = np.zeros((math.ceil((end - start) * self.rate - 1e-6), self.channels), np.float32)
        for stretch in self._stretches:
            piece = resample(np.concatenate(stretch.pieces), stretch.rate, self.rate)
            first = round((stretch.at - start) * self.rate)
            piece = piece[max(-first, 0) :][: max(len(samples) - max(first, 0), 0)]
            samples[max(first, 0) : max(first, 0) + len(piece)] = piece
        return samples


def _with_channels(samples: Samples, channels: int) -> Samples:
    """The same sound with as many channels: each the mean, where the number differs."""
    if samples.shape[1] == channels:
        return samples
    return np.repeat(samples.mean(axis=1, dtype=np.float32, keepdims=True), channels, axis=1)


def resample(samples: Samples, rate: int, wanted_rate: int) -> Samples:
    """(n, channels) at `rate` Hz as (about n * wanted_rate / rate, channels), band-limited."""
    if rate == wanted_rate:
        return samples
    return np.stack([_resample_channel(one, rate, wanted_rate) for one in samples.T], axis=1)


def _resample_channel(samples: Samples, rate: int, wanted_rate: int) -> Samples:
    plane = np.ascontiguousarray(samples)[None]
    frame = av.AudioFrame.from_ndarray(plane, format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted_rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in frames] or [plane[0, :0]])


def check_format(name: str, rate: int, channels: int) -> None:
    """Refuse what no sound is like, before memory is taken for it."""
    if not _RATES[0] <= rate <= _RATES[1]:
        raise MediaError(
            f"{name}: {rate} samples per second, expected {_RATES[0]} to {_RATES[1]}; "
            "convert the sound"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise MediaError(
            f"{name}: {channels} channels, expected 1 to {MOST_CHANNELS}; mix the sound down"
        )


def cut_off(name: str, end: float) -> MediaError:
    """The error for a file whose end is missing."""
    return MediaError(f"{name}: is cut off at {end:.2f} s; give the whole file")
