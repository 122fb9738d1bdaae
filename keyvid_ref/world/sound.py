"""Sounds of the synthetic world, recorded in a room with noise and sounds of something else.

A sound function takes the events (s), the number of samples, the sample rate and a generator, and
gives the dry sound (num_samples,) float64, about 1 at its loudest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keyvid_ref.world.recordings import Recordings, recorded_noise, recorded_swell

Sound = Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]


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


_SIGNAL_TO_NOISE_DB = (4, 35)  # power of the sound to that of recorded noise behind it

# Mode ratios: a free bar (Fletcher and Rossing, The Physics of Musical Instruments, 2.15), a
# bouncing ball's dull thump, an ideal circular membrane (ibid., 3.3).
BAR = Body((500, 1400), (1.0, 2.756, 5.404), (0.08, 0.4), 0.0, (0.1, 0.4))
THUMP = Body((80, 220), (1.0, 2.1), (0.04, 0.12), 0.5, (0.1, 0.5))
MEMBRANE = Body((120, 350), (1.0, 1.594, 2.136, 2.296), (0.08, 0.25), 0.15, (0.2, 0.6))


def num_stretches(seconds: float) -> int:
    """How many times two seconds there are, to the nearest: what comes by chance comes in each."""
    return round(seconds / 2)


def record(
    sound: Sound,
    events: np.ndarray,
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
    recordings: Recordings | None = None,
) -> np.ndarray:
    """`sound` at `events` (s) in a random room, at a random level, with sounds that mean nothing.

    With `recordings`, some of those sounds and half of the backgrounds are recorded.

    Returns:
        (num_samples,) float32 in [-1, 1].
    """
    dry = sound(events, num_samples, sample_rate, rng)
    for _ in range(num_stretches(num_samples / sample_rate)):
        if rng.random() < 0.3:
            for _ in range(rng.integers(1, 3)):
                dry += rng.uniform(0.1, 0.5) * _distractor(
                    num_samples, sample_rate, rng, recordings
                )
    wet = _reverberate(dry, sample_rate, rng)
    if recordings and rng.random() < 0.5:
        power = float(np.square(wet).mean()) or 1e-4
        level = np.sqrt(power) * 10 ** (-rng.uniform(*_SIGNAL_TO_NOISE_DB) / 20)
        wet += level * recorded_noise(recordings, num_samples, rng)
    loudest = rng.uniform(0.2, 0.9) if recordings is None else 0.9 * 10 ** -rng.uniform(0, 1.2)
    wet *= loudest / max(np.abs(wet).max(), 1.0)
    return np.clip(wet + _background(num_samples, rng), -1, 1).astype(np.float32)


def shaker_sound(
    events: np.ndarray, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A rustle at each event, bright on the way out and dark on the way back."""
    bands = ((rng.uniform(4500, 6500), 1200.0), (rng.uniform(1200, 2200), 500.0))
    decay = rng.uniform(0.025, 0.05)
    dry = np.zeros(num_samples)
    for i, event in enumerate(events):
        start = round(event * sample_rate)
        noise = _band_noise(num_samples - start, sample_rate, *bands[i % 2], rng)
        time = np.arange(num_samples - start) / sample_rate
        dry[start:] += (
            rng.uniform(0.5, 1.0) * np.clip(time / 0.004, 0, 1) * noise * np.exp(-time / decay)
        )
    return dry


def mouth_sound(
    events: np.ndarray, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A vowel from each odd event to the next one: harmonics under two formants."""
    pitch = rng.uniform(100, 260)
    formants = np.array([rng.uniform(350, 900), rng.uniform(1000, 2400)])
    time = np.arange(num_samples) / sample_rate
    vibrato = 1 + 0.02 * np.sin(2 * np.pi * rng.uniform(4, 7) * time + rng.uniform(0, 2 * np.pi))
    phase = 2 * np.pi * np.cumsum(pitch * vibrato) / sample_rate
    voice = np.zeros(num_samples)
    for harmonic in range(1, int(3500 / pitch)):
        distance = (harmonic * pitch - formants) / np.array([120, 200])
        level = 0.05 + np.exp(-0.5 * distance**2).sum()
        voice += level / np.sqrt(harmonic) * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    gate = np.zeros(num_samples)
    for start, end in events.reshape(-1, 2):
        ramp = np.minimum((time - start) / 0.03 + 0.5, (end - time) / 0.03 + 0.5)
        gate += rng.uniform(0.5, 1.0) * np.clip(ramp, 0, 1)
    return voice / np.abs(voice).max() * gate


def flower_sound(
    events: np.ndarray, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A sustained tone that glides up at one event and down at the next; alone it may be silent."""
    low, interval, glide = rng.uniform(180, 380), rng.uniform(1.4, 2.0), rng.uniform(0.25, 0.4)
    sounding = len(events) > 0 or rng.random() < 0.6
    time = np.arange(num_samples) / sample_rate
    height = np.zeros(num_samples)
    for i, event in enumerate(events):
        height += (-1) ** i * np.clip((time - event) / glide + 0.5, 0, 1)
    phase = 2 * np.pi * np.cumsum(low * interval**height) / sample_rate
    tone = np.zeros(num_samples)
    for harmonic in range(1, 5):
        tone += rng.uniform(0.3, 1.0) / harmonic * np.sin(harmonic * phase)
    swell = 1 - 0.2 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * time) ** 2
    return sounding * rng.uniform(0.4, 0.8) * swell * tone / np.abs(tone).max()


def struck_sound(
    body: Body,
    events: np.ndarray,
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """`body`, struck at each event."""
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
        dry[start:] += (
            rng.uniform(0.5, 1.0) * attack * ((1 - noise_share) * ring + noise_share * burst)
        )
    return dry


def _distractor(
    num_samples: int, sample_rate: int, rng: np.random.Generator, recordings: Recordings | None
) -> np.ndarray:
    """A whistle that glides or a hiss that comes and goes: nothing in the world moves to them."""
    if recordings and rng.random() < 0.5:
        return recorded_swell(recordings, num_samples, sample_rate, rng)
    seconds, middle = rng.uniform(0.25, 0.7), rng.uniform(0.2, num_samples / sample_rate - 0.2)
    time = np.arange(num_samples) / sample_rate
    swell = np.clip(1 - np.abs(time - middle) / (seconds / 2), 0, 1) ** 0.5
    if rng.random() < 0.5:
        turns = np.clip((time - middle) / seconds, -8, 8)  # silent beyond 0.5; 8 does not overflow
        pitch = rng.uniform(2500, 4000) * rng.uniform(0.6, 1.6) ** turns
        return swell * np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)
    return swell * _band_noise(num_samples, sample_rate, rng.uniform(2500, 3500), 400.0, rng)


def _band_noise(
    num_samples: int, sample_rate: int, centre: float, width: float, rng: np.random.Generator
) -> np.ndarray:
    """(num_samples,) noise around `centre` Hz, about 1 at its loudest."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.fft.rfftfreq(num_samples, 1 / sample_rate)
    spectrum *= np.exp(-0.5 * ((frequency - centre) / width) ** 2)
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / (3 * noise.std() + 1e-9)


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
