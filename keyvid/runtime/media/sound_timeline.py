"""Where decoded pieces of a sound stand in time, and the sound that they make together."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt

from keyvid.errors import MediaError

MOST_CHANNELS = 64
HIGHEST_RATE = 48_000  # that is kept: nothing here hears what is beyond

_RATES = (1_000, 1_000_000)  # Hz; beyond it a header is wrong
_JITTER = 0.02  # seconds, half a frame: what timestamps may be off where nothing is missing

Samples = npt.NDArray[np.float32]


class Excerpt(NamedTuple):
    """The wanted part of a sound.

    Attributes:
        samples: (n, 1 or 2) float32; fewer than wanted where the sound ends.
        rate: samples per second, HIGHEST_RATE at most.
        duration: seconds of the whole sound, None where only reading it through would tell.
    """

    samples: Samples
    rate: int
    duration: float | None


class Resampler:
    """Changes the rate of a sound that comes in pieces, band-limited.

    Args:
        rate, wanted_rate: samples per second before and after.
        channels: 1 or 2.
    """

    def __init__(self, rate: int, wanted_rate: int, channels: int) -> None:
        self._rate = rate
        self._layout = "mono" if channels == 1 else "stereo"
        self._nothing = np.zeros((0, channels), np.float32)
        self._resampler = None
        if rate != wanted_rate:
            self._resampler = av.AudioResampler("fltp", self._layout, wanted_rate)

    def add(self, samples: Samples) -> Samples:
        """What can be said after (n, channels) more: some behind them, the filter looks ahead."""
        if self._resampler is None or not len(samples):
            return samples
        planes = np.ascontiguousarray(samples.T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
        frame.sample_rate = self._rate
        return self._joined(self._resampler.resample(frame))

    def finish(self) -> Samples:
        """What was still held back."""
        resampler, self._resampler = self._resampler, None
        return self._nothing if resampler is None else self._joined(resampler.resample(None))

    def _joined(self, frames: list[av.AudioFrame]) -> Samples:
        return np.concatenate([self._nothing, *(frame.to_ndarray().T for frame in frames)])


def resample(samples: Samples, rate: int, wanted_rate: int) -> Samples:
    """(n, 1 or 2) at `rate` Hz as (about n * wanted_rate / rate, channels), band-limited."""
    if rate == wanted_rate or not len(samples):
        return samples
    resampler = Resampler(rate, wanted_rate, samples.shape[1])
    return np.concatenate([resampler.add(samples), resampler.finish()])


@dataclass
class _Stretch:
    """Pieces of one rate that follow each other without a gap."""

    at: float  # seconds
    rate: int
    resampler: Resampler
    pieces: list[Samples] = field(default_factory=list)
    num_samples: int = 0  # that came in

    @property
    def end(self) -> float:
        return self.at + self.num_samples / self.rate

    def add(self, samples: Samples) -> None:
        self.pieces.append(self.resampler.add(samples))
        self.num_samples += len(samples)


class Timeline:
    """Pieces of a sound, placed where their timestamps say; silence where there are none.

    Args:
        rate, channels: of the sound that is made of them.
    Attributes:
        gaps: seconds at which a piece ended and the next one began, where something is missing.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = rate
        self.channels = channels
        self.gaps: list[tuple[float, float]] = []
        self._stretches: list[_Stretch] = []

    @property
    def end(self) -> float | None:
        """Seconds; None without a piece."""
        return max((stretch.end for stretch in self._stretches), default=None)

    def add(self, at: float | None, rate: int, samples: Samples) -> None:
        """Place (n, 1 or 2) of `rate` at a time in seconds, None for where the last ended."""
        last = self._stretches[-1] if self._stretches else None
        if at is None:
            at = last.end if last else 0.0
        if last and at > last.end + _JITTER:
            self.gaps.append((last.end, at))
        if last is None or last.rate != rate or abs(at - last.end) > _JITTER:
            last = _Stretch(at, rate, Resampler(rate, self.rate, self.channels))
            self._stretches.append(last)
        last.add(_with_channels(samples, self.channels))

    def cut(self, start: float, seconds: float | None) -> Samples:
        """(n, channels) from `start` on, to the end of the sound or for `seconds`; only once."""
        end = max(self.end or start, start)
        if seconds is not None:
            end = min(end, start + seconds)
        samples = np.zeros((math.ceil((end - start) * self.rate - 1e-6), self.channels), np.float32)
        for stretch in self._stretches:
            stretch.pieces.append(stretch.resampler.finish())
            at = round((stretch.at - start) * self.rate)
            for piece in stretch.pieces:
                seen = piece[max(-at, 0) :][: max(len(samples) - max(at, 0), 0)]
                samples[max(at, 0) : max(at, 0) + len(seen)] = seen
                at += len(piece)
        return samples


def _with_channels(samples: Samples, channels: int) -> Samples:
    """The same sound with as many channels: each the mean, where the number differs."""
    if samples.shape[1] == channels:
        return samples
    return np.repeat(samples.mean(axis=1, dtype=np.float32, keepdims=True), channels, axis=1)


def check_format(name: str, rate: int, channels: int) -> None:
    """Refuse what no sound is like, before memory is taken for it."""
    if not _RATES[0] <= rate <= _RATES[1]:
        raise MediaError(
            f"{name}: {rate} samples per second, expected {_RATES[0]} to {_RATES[1]}; "
            "convert the sound"
        )
    if not 1 <= channels <= MOST_CHANNELS:
        found = channels or "an unknown number of"
        raise MediaError(
            f"{name}: {found} channels, expected 1 to {MOST_CHANNELS}; mix the sound down"
        )


def cut_off(name: str, end: float) -> MediaError:
    """The error for a file whose end is missing."""
    return MediaError(f"{name}: is cut off at {end:.2f} s; give the whole file")
