"""Recorded sounds for the synthetic world: one-shots, voices, held tones and noises.

A folder of recordings holds FAMILY/NAME.flac, mono at 16 kHz; `world.fetch` makes it.

Whether the end of a recorded sound is an event is a matter of the kind of scene: a voice opens the
mouth when it begins and closes it when it ends, so both are; hammer, ball, drum and shaker move at
onsets alone, however long the sound rings; the flower leans where its tone glides, not where it
begins or ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

LEAD_S = 0.02  # of a one-shot before its onset
STRUCK = ("metal", "drum", "thump", "rustle", "call")  # families of one-shots
FAMILIES = (*STRUCK, "voice", "held", "noise")

_RAMP_S = 0.03
_TRIES = 8


@dataclass(frozen=True)
class Recordings:
    """Sounds of each of `FAMILIES`, (n,) float32 at 16 kHz, 1 at their loudest."""

    sounds: dict[str, list[np.ndarray]]

    def choose(self, rng: np.random.Generator, families: Sequence[str]) -> np.ndarray:
        """One sound at random of all in `families`."""
        among = [sound for family in families for sound in self.sounds[family]]
        return among[rng.integers(len(among))]


@cache
def load_recordings(folder: Path) -> Recordings:
    """The recordings in `folder`.

    Raises:
        ValueError: a family has none.
    """
    sounds = {
        family: [
            soundfile.read(path, dtype="float32")[0]
            for path in sorted((folder / family).glob("*.flac"))
        ]
        for family in FAMILIES
    }
    missing = [family for family, found in sounds.items() if not found]
    if missing:
        raise ValueError(f"{folder}: no recordings of {', '.join(missing)}; fetch them anew")
    return Recordings(sounds)


def recorded_strikes(
    families: Sequence[str],
    recordings: Recordings,
    events: np.ndarray,
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """One-shots whose onsets are at the events: one recording, at times several in turn.

    Half of the time of `families`, else any: people play what they have to any picture.
    """
    among = families if rng.random() < 0.5 else STRUCK
    chosen = [recordings.choose(rng, among) for _ in range(1 if rng.random() < 0.7 else 3)]
    chosen = [_at_speed(sound, 2 ** rng.uniform(-0.3, 0.3)) for sound in chosen]
    dry = np.zeros(num_samples)
    for i, event in enumerate(events):
        sound = chosen[i % len(chosen)]
        start = round((event - LEAD_S) * sample_rate)
        part = sound[max(-start, 0) : num_samples - start]
        dry[max(start, 0) : max(start, 0) + len(part)] += rng.uniform(0.4, 1.0) * part
    return dry


def recorded_voice(
    recordings: Recordings,
    events: np.ndarray,
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A voice from each odd event to the next one."""
    dry = np.zeros(num_samples)
    voice = recordings.choose(rng, ("voice",))
    for begin, end in events.reshape(-1, 2):
        length = round((end - begin + _RAMP_S) * sample_rate)
        part = _steady_part(voice, length, sample_rate, rng)
        since = np.arange(length) / sample_rate
        ramp = np.clip(np.minimum(since, since[::-1]) / _RAMP_S, 0, 1)
        start = round((begin - _RAMP_S / 2) * sample_rate)
        room = dry[max(start, 0) : start + length]
        room += rng.uniform(0.5, 1.0) * (ramp * part)[max(-start, 0) :][: len(room)]
    return dry


def recorded_tone(
    recordings: Recordings,
    events: np.ndarray,
    num_samples: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A held tone that glides up at one event and down at the next; alone it may be silent."""
    tone = recordings.choose(rng, ("held",))
    speed, interval, glide = rng.uniform(0.7, 1.3), rng.uniform(1.3, 1.9), rng.uniform(0.25, 0.4)
    time = np.arange(num_samples) / sample_rate
    height = np.zeros(num_samples)
    for i, event in enumerate(events):
        height += (-1) ** i * np.clip((time - event) / glide + 0.5, 0, 1)
    place = rng.uniform(0, len(tone)) + np.cumsum(speed * interval**height)
    there_and_back = np.abs((place % (2 * len(tone))) - len(tone))
    sounding = len(events) > 0 or rng.random() < 0.6
    heard = np.interp(there_and_back, np.arange(len(tone)), tone)
    return sounding * rng.uniform(0.4, 0.9) * heard


def recorded_swell(
    recordings: Recordings, num_samples: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """A sound that comes and goes slowly, or a one-shot played backwards: nothing moves to it."""
    seconds = rng.uniform(0.4, 1.2)
    length = round(seconds * sample_rate)
    sound = _looped(recordings.choose(rng, ("held", "noise", "noise")), length, rng)
    share = np.arange(length) / length
    sound = sound * np.sin(np.pi * share) ** 2
    dry = np.zeros(num_samples)
    start = rng.integers(0, max(num_samples - length, 1))
    part = dry[start : start + length]
    part += sound[: len(part)] / max(float(np.abs(sound).max()), 1e-6)
    return dry


def recorded_noise(
    recordings: Recordings, num_samples: int, rng: np.random.Generator
) -> np.ndarray:
    """(num_samples,) noise of unit power: recorded, or coloured by chance."""
    if rng.random() < 0.55:
        noise = _looped(recordings.choose(rng, ("noise",)), num_samples, rng)
        noise = _at_speed(noise, 2 ** rng.uniform(-0.5, 0.5))
        noise = np.resize(noise, num_samples).astype(np.float64)
    else:
        noise = coloured_noise(num_samples, rng)
    return noise / (noise.std() + 1e-9)


def coloured_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """(num_samples,) noise whose spectrum falls or rises, with a band, that may waver slowly."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.linspace(0.002, 1, len(spectrum))
    shape = frequency ** -rng.uniform(-0.3, 1.0)
    if rng.random() < 0.5:
        middle, width = rng.uniform(-5, 0), rng.uniform(0.3, 1.5)
        shape = shape * (0.05 + np.exp(-0.5 * ((np.log2(frequency) - middle) / width) ** 2))
    noise = np.fft.irfft(spectrum * shape, num_samples)
    if rng.random() < 0.5:
        knots = np.exp(rng.normal(0, 0.4, 2 + num_samples // 8000))
        noise = noise * np.interp(
            np.linspace(0, 1, num_samples), np.linspace(0, 1, len(knots)), knots
        )
    return noise


def _at_speed(sound: np.ndarray, speed: float) -> np.ndarray:
    """The sound played faster (higher) or slower; the lead of a one-shot stays as long."""
    lead = round(LEAD_S * 16000)
    places = lead + (np.arange(round(len(sound) / speed)) - lead) * speed
    return np.interp(places, np.arange(len(sound)), sound).astype(np.float32)


def _looped(sound: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples from a random place on, there and back where the sound is too short."""
    whole = np.concatenate([sound, sound[::-1]])
    return whole[(rng.integers(len(whole)) + np.arange(length)) % len(whole)]


def _steady_part(
    voice: np.ndarray, length: int, sample_rate: int, rng: np.random.Generator
) -> np.ndarray:
    """`length` samples of a voice with as little of a pause as a few tries find, 1 at most."""
    best, best_steadiness = voice[:0], -1.0
    window = round(0.06 * sample_rate)
    for _ in range(_TRIES):
        part = _looped(voice, length, rng)
        power = np.convolve(part**2, np.full(window, 1 / window), "valid")
        steadiness = float(power.min() / (power.max() + 1e-12)) if len(power) else 0.0
        if steadiness > best_steadiness:
            best, best_steadiness = part, steadiness
    return best / max(float(np.abs(best).max()), 1e-6)
