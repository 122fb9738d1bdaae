"""Clips to be scored: held-out clips of the synthetic world, or a folder of someone's own."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from sync_motion import EVENTS

from keyvid.errors import MediaError
from keyvid_ref import world

SOUNDS = ("own", "silent", "swapped", "shifted")
SHIFT_S = 0.25
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif")

_SILENCE = 1e-3  # standard deviation: 60 dB below full scale
_ROWS = 96  # videos are shrunk to this height: both measures average over more than that
SPLITS = {"test": world.TEST_SEEDS, "validation": world.VALIDATION_SEEDS}
_OTHER = 5000  # how far along the split a swapped sound is taken from
_FACTS = '{"events_s": [seconds, ...]}'


@dataclass(frozen=True)
class Film:
    """What is scored.

    kind: a name to tabulate by. event: one of `EVENTS`. frames: (T, H, W, 3) uint8. times: (T,)
    seconds. events: (n,) seconds. duration: seconds.
    """

    name: str
    kind: str
    event: str
    frames: np.ndarray
    times: np.ndarray
    events: np.ndarray
    duration: float


@dataclass(frozen=True)
class Task:
    """A clip to generate: the picture of a seed with one of `SOUNDS`."""

    seed: int
    sound: str = "own"

    @property
    def name(self) -> str:
        return str(self.seed) if self.sound == "own" else f"{self.seed}-{self.sound}"


@dataclass(frozen=True)
class Scene:
    """What a clip is generated from, and the true clip of that picture with its own sound.

    waveform: (n,) float32 at `world.SAMPLE_RATE`. events: (n,) seconds, of the waveform.
    """

    truth: Film
    waveform: np.ndarray
    events: np.ndarray

    def filmed(self, name: str, frames: np.ndarray) -> Film:
        """The truth's film with other frames (same number and rate) and this scene's events."""
        truth = self.truth
        return Film(name, truth.kind, truth.event, frames, truth.times, self.events, truth.duration)


def make_scene(task: Task, height: int, width: int) -> Scene:
    """The scene of `task`, the picture `height` by `width` pixels."""
    clip = world.make_clip(task.seed, height, width)
    times = np.arange(len(clip.frames)) / world.FPS
    event = world.KINDS[clip.kind].event
    truth = Film(
        str(task.seed), clip.kind, event, clip.frames, times, clip.events, float(world.SECONDS)
    )
    if task.sound == "own":
        return Scene(truth, clip.waveform, clip.events)
    if task.sound == "silent":
        noise = np.random.default_rng(task.seed).standard_normal(len(clip.waveform)) * _SILENCE
        return Scene(truth, noise.astype(np.float32), np.zeros(0))
    if task.sound == "swapped":
        other = _other_sound(task.seed, clip.kind)
    else:
        moved = clip.events + SHIFT_S
        other = world.make_clip(task.seed, height, width, kind=clip.kind, events=moved)
    return Scene(truth, other.waveform, other.events)


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
        events = make_scene(task, height, width).events
        if len(events):
            swapped.append(Task(task.seed, "swapped"))
            if events[-1] + 2 * SHIFT_S <= world.SECONDS:
                shifted.append(Task(task.seed, "shifted"))
    return [*own, *silent, *swapped[:num_controls], *shifted[:num_controls]]


def read_folder(folder: Path) -> list[Film]:
    """Each video in `folder` with the facts in the JSON file of the same name, sorted by name.

    Raises:
        MediaError: which file is missing or wrong.
    """
    if not folder.is_dir():
        raise MediaError(
            f"{folder}: is not a folder; give one of videos with NAME.json beside each"
        )
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise MediaError(f"{folder}: holds no video; want {', '.join(VIDEO_SUFFIXES)}")
    return [_read_film(path) for path in videos]


def _other_sound(seed: int, kind: str) -> world.WorldClip:
    """A clip of the same kind from far along the split that has events."""
    seeds = next(seeds for seeds in SPLITS.values() if seed in seeds)
    first = seeds.index(seed) + _OTHER
    for step in range(len(seeds)):
        other = world.make_clip(seeds[(first + step) % len(seeds)], kind=kind)
        if len(other.events):
            return other
    raise MediaError(f"no held-out clip of kind {kind} has events; there is no sound to swap in")


def _read_film(path: Path) -> Film:
    facts = _read_facts(path.with_suffix(".json"), path)
    frames, times = _read_video(path)
    duration = float(times[-1] + np.median(np.diff(times)))
    events = np.sort(np.array(facts["events_s"], np.float64))
    outside = events[(events < 0) | (events > duration)]
    if len(outside):
        raise MediaError(
            f"{path}: event at {outside[0]:g} s, but the video lasts {duration:.2f} s; "
            f"correct events_s in {path.with_suffix('.json').name}"
        )
    kind, event = str(facts.get("kind", "clip")), facts.get("event", EVENTS[0])
    return Film(path.stem, kind, event, frames, times, events, duration)


def _read_facts(path: Path, video: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise MediaError(f"{video}: has no {path.name} beside it; write {_FACTS}") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{path}: cannot be read ({error}); write {_FACTS}") from error
    events = facts.get("events_s") if isinstance(facts, dict) else None
    if not isinstance(events, list) or not all(_is_time(event) for event in events):
        raise MediaError(f"{path}: events_s is {events!r}; want a list of seconds, {_FACTS}")
    if facts.get("event", EVENTS[0]) not in EVENTS:
        raise MediaError(f"{path}: event is {facts['event']!r}; want {' or '.join(EVENTS)}")
    return facts


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)


def _read_video(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames, shrunk to `_ROWS`, and their times in seconds from the beginning of the file."""
    frames: list[np.ndarray] = []
    times: list[float] = []
    try:
        with av.open(str(path)) as container:
            origin = (container.start_time or 0) / av.time_base
            for frame in container.decode(video=0):
                rows = min(_ROWS, frame.height)
                columns = max(1, round(frame.width * rows / frame.height))
                small = frame.reformat(columns, rows, "rgb24", interpolation="AREA")
                frames.append(small.to_ndarray())
                times.append(float(frame.time) - origin)
    except (av.FFmpegError, IndexError, TypeError) as error:
        raise MediaError(f"{path}: not a video that can be read ({error})") from error
    if len(frames) < 3 or _falls_back(times):
        raise MediaError(
            f"{path}: {len(frames)} frames at times that do not all ascend; want at least 3 that do"
        )
    return np.stack(frames), np.array(times)


def _falls_back(times: Sequence[float]) -> bool:
    return bool((np.diff(times) <= 0).any())
