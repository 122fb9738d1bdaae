"""Sounds with known onsets, composed from the recordings in `bench/quality/sounds`.

No network was trained on these recordings, nor on others of their package.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000
NOISE_LEVELS_DB: tuple[int | None, ...] = (None, 20, 10, 5)  # None: clean

_FOLDER = Path(__file__).parent / "sounds"
_NOISE = "noise"
_LEAD_S = 0.02  # of a recording before its onset
_GAP_S = 0.22  # between neighbouring onsets, at least
_MARGIN_S = 0.1  # at either end of a sound
_MOST_IN_2_S = 5
_PEAK = 0.7


@dataclass(frozen=True)
class Sound:
    """kind: of its recordings. waveform: (n,) float32 at 16 kHz. events: (n,) onsets in seconds."""

    kind: str
    waveform: np.ndarray
    events: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


@cache
def load_recordings() -> Mapping[str, list[np.ndarray]]:
    """(n,) float32 recordings by kind, noises as a kind of their own."""
    kinds = sorted(path for path in _FOLDER.iterdir() if path.is_dir())
    return {
        kind.name.replace("_", " "): [
            soundfile.read(path, dtype="float32")[0] for path in sorted(kind.iterdir())
        ]
        for kind in kinds
    }


def compose_sounds(count: int, seconds: float, noise_db: int | None) -> Iterator[Sound]:
    """The same sounds each time, each kind as often, at every level of noise the same events.

    Args:
        noise_db: power of the sound over that of the noise behind it; None for no noise.
    """
    kinds = [kind for kind in load_recordings() if kind != _NOISE]
    for number in range(count):
        yield _compose(number, kinds[number % len(kinds)], seconds, noise_db)


def name_level(noise_db: int | None) -> str:
    """A level of noise in words."""
    return "clean" if noise_db is None else f"{noise_db} dB"


def _compose(number: int, kind: str, seconds: float, noise_db: int | None) -> Sound:
    """One recording of the kind, or in every third sound several, at 1 to 5 onsets in 2 s."""
    rng = np.random.default_rng([number, round(seconds)])
    recordings = load_recordings()[kind]
    stretches = round(seconds / 2)
    events = _draw_onsets(rng, int(rng.integers(1, _MOST_IN_2_S + 1, stretches).sum()), seconds)
    several = len(recordings) if number % 3 == 2 else 1
    chosen = rng.permutation(len(recordings))[:several]
    clean = np.zeros(round(seconds * SAMPLE_RATE))
    for i, event in enumerate(events):
        recording = recordings[chosen[i % several]]
        start = round((event - _LEAD_S) * SAMPLE_RATE)
        part = clean[start : start + len(recording)]
        part += rng.uniform(0.5, 1.0) * recording[: len(part)]
    noise = _draw_noise(rng, number, len(clean))
    if noise_db is not None:
        power = float(np.square(clean).mean())
        clean += noise * np.sqrt(power) * 10 ** (-noise_db / 20)
    waveform = _PEAK * clean / np.abs(clean).max()
    return Sound(kind, waveform.astype(np.float32), events)


def _draw_onsets(rng: np.random.Generator, count: int, seconds: float) -> np.ndarray:
    """Ascending times, `_GAP_S` apart at least."""
    slack = seconds - 2 * _MARGIN_S - _GAP_S * (count - 1)
    return _MARGIN_S + np.sort(rng.uniform(0, slack, count)) + _GAP_S * np.arange(count)


def _draw_noise(rng: np.random.Generator, number: int, num_samples: int) -> np.ndarray:
    """(num_samples,) of unit power: in turn each recorded noise, white noise and pink noise."""
    recorded = load_recordings()[_NOISE]
    turn = number % (len(recorded) + 2)
    if turn < len(recorded):
        there_and_back = np.concatenate([recorded[turn], recorded[turn][::-1]])
        places = rng.integers(len(there_and_back)) + np.arange(num_samples)
        noise = there_and_back[places % len(there_and_back)].astype(np.float64)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(num_samples))
        if turn == len(recorded):
            spectrum /= np.sqrt(np.arange(len(spectrum)) + 1)
        noise = np.fft.irfft(spectrum, num_samples)
    unit: np.ndarray = noise / noise.std()
    return unit
