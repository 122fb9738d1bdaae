"""Sounds of the synthetic world: struck bodies in a room, with some noise behind them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Body:
    """What rings when it is struck; ranges are drawn from uniformly.

    pitch: Hz of the lowest mode; modes: frequencies relative to it; decay: seconds of the lowest
    mode; glide: how far the pitch starts above its end; noise: share of the noise of the impact.
    """

    pitch: tuple[float, float]
    modes: tuple[float, ...]
    decay: tuple[float, float]
    glide: float
    noise: tuple[float, float]


# Mode ratios: a free bar (Fletcher and Rossing, The Physics of Musical Instruments, 2.15), a
# bouncing ball's dull thump, an ideal circular membrane (ibid., 3.3).
BODIES = {
    "hammer": Body((500, 1600), (1.0, 2.756, 5.404), (0.08, 0.4), 0.0, (0.1, 0.4)),
    "ball": Body((80, 220), (1.0, 2.1), (0.04, 0.12), 0.5, (0.1, 0.5)),
    "drum": Body((120, 350), (1.0, 1.594, 2.136, 2.296), (0.08, 0.25), 0.15, (0.2, 0.6)),
}


def strike_sound(
    kind: str, events: np.ndarray, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Sound of a body of `kind` struck at `events` (s).

    Returns:
        (num_samples,) float32 in [-1, 1].
    """
    body = BODIES[kind]
    pitch, decay = rng.uniform(*body.pitch), rng.uniform(*body.decay)
    noise_share = rng.uniform(*body.noise)
    amplitudes = rng.uniform(0.4, 1.0, len(body.modes)) / np.arange(1, len(body.modes) + 1)
    dry = np.zeros(num_samples)
    for event in events:
        start = round(event * sample_rate)
        time = np.arange(num_samples - start) / sample_rate
        glide = 1 + body.glide * np.exp(-time / 0.02)
        ring = np.zeros_like(time)
        for ratio, amplitude in zip(body.modes, amplitudes, strict=True):
            phase = 2 * np.pi * np.cumsum(pitch * ratio * glide) / sample_rate
            ring += amplitude * np.sin(phase) * np.exp(-time * ratio / decay)
        burst = rng.standard_normal(len(time)) * np.exp(-time / rng.uniform(0.005, 0.03))
        attack = np.clip(time / 0.001, 0, 1)
        loudness = rng.uniform(0.6, 1.0)
        dry[start:] += loudness * attack * ((1 - noise_share) * ring + noise_share * burst)
    wet = _reverberate(dry, sample_rate, rng)
    peak = rng.uniform(0.2, 0.9)
    wet *= peak / max(np.abs(wet).max(), 1.0)
    return np.clip(wet + _background(num_samples, rng), -1, 1).astype(np.float32)


def _reverberate(dry: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Add the tail of a random room: exponentially decaying noise."""
    seconds, level = rng.uniform(0.05, 0.4), rng.uniform(0, 0.12)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / seconds)
    size = len(dry) + len(tail)
    echo = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(tail, size), size)[: len(dry)]
    return dry + level * echo / np.sqrt((tail**2).sum() + 1e-9)


def _background(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose power falls with frequency, 35 to 60 dB below full scale."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum /= np.sqrt(np.arange(len(spectrum)) + 10)
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / noise.std() * 10 ** (-rng.uniform(35, 60) / 20)
