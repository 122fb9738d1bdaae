"""Held-out clips of the synthetic world: what is given to the networks, and the true clip."""

from dataclasses import dataclass

import numpy as np

from keyvid.errors import SettingsError
from keyvid.score.film import Film
from keyvid_ref.world import world

SOUNDS = ("own", "silent", "swapped", "shifted")
SHIFT_S = 0.25
SPLITS = {"test": world.TEST_SEEDS, "validation": world.VALIDATION_SEEDS}

_SILENCE = 1e-3  # standard deviation: 60 dB below full scale
_OTHER = 5000  # how far along the split a swapped sound is taken from


@dataclass(frozen=True)
class Task:
    """A clip to generate: the picture of a seed with one of `SOUNDS`."""

    seed: int
    sound: str = "own"

    @property
    def name(self) -> str:
        return str(self.seed) if self.sound == "own" else f"{self.seed}-{self.sound}"


@dataclass(frozen=True)
class Example:
    """What a clip is generated from, and the true clip of that picture with its own sound.

    waveform: (n,) float32 at `world.SAMPLE_RATE`. events: (n,) seconds, of the waveform.
    """

    truth: Film
    waveform: np.ndarray
    events: np.ndarray

    def filmed(self, name: str, frames: np.ndarray) -> Film:
        """The truth's film with other frames (same number and rate) and this sound's events."""
        truth = self.truth
        return Film(name, truth.kind, truth.event, frames, truth.times, self.events, truth.duration)


def make_example(task: Task, height: int, width: int) -> Example:
    """What `task` is made from, the picture `height` by `width` pixels."""
    clip = world.make_clip(task.seed, height, width)
    times = np.arange(len(clip.frames)) / world.FPS
    event = world.KINDS[clip.kind].event
    truth = Film(
        str(task.seed), clip.kind, event, clip.frames, times, clip.events, float(world.SECONDS)
    )
    if task.sound == "own":
        return Example(truth, clip.waveform, clip.events)
    if task.sound == "silent":
        noise = np.random.default_rng(task.seed).standard_normal(len(clip.waveform)) * _SILENCE
        return Example(truth, noise.astype(np.float32), np.zeros(0))
    if task.sound == "swapped":
        other = _other_sound(task.seed, clip.kind)
    else:
        moved = clip.events + SHIFT_S
        other = world.make_clip(task.seed, height, width, kind=clip.kind, events=moved)
    return Example(truth, other.waveform, other.events)


def plan_tasks(
    num_clips: int, num_controls: int, height: int, width: int, split: str = "test"
) -> list[Task]:
    """The first clips of a split, then for each other sound the first that suit it.

    Clips without events have no sound to swap or shift; those with a late event cannot be shifted.
    """
    own = [Task(seed) for seed in SPLITS[split][:num_clips]]
    silent = [Task(task.seed, "silent") for task in own[:num_controls]]
    swapped: list[Task] = []
    shifted: list[Task] = []
    for task in own if num_controls else ():
        events = make_example(task, height, width).events
        if len(events):
            swapped.append(Task(task.seed, "swapped"))
            if events[-1] + 2 * SHIFT_S <= world.SECONDS:
                shifted.append(Task(task.seed, "shifted"))
    return [*own, *silent, *swapped[:num_controls], *shifted[:num_controls]]


def _other_sound(seed: int, kind: str) -> world.WorldClip:
    """A clip of the same kind from far along the split that has events."""
    seeds = next(seeds for seeds in SPLITS.values() if seed in seeds)
    first = seeds.index(seed) + _OTHER
    for step in range(len(seeds)):
        other = world.make_clip(seeds[(first + step) % len(seeds)], kind=kind)
        if len(other.events):
            return other
    raise SettingsError(f"no held-out clip of kind {kind} has events; there is no sound to swap in")
