"""Does a localizer hear when things happen, in recordings that it was not trained on?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from bench.quality.compose import NOISE_LEVELS_DB, SAMPLE_RATE, Sound, compose_sounds, name_level
from bench.quality.examples import SPLITS
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Dimensions
from keyvid.engines.engine import choose_engine
from keyvid.runtime.diffusion.segments import all_keyframes, num_segment_frames, plan_segments
from keyvid.runtime.encoding import score_motion
from keyvid.runtime.networks.budget import Budget
from keyvid.runtime.networks.stages import OpenGraphs, StageRunner
from keyvid.score.agreement import TimedClip, agree
from keyvid.score.motion import find_extremes
from keyvid.score.report import Table, two, with_interval
from keyvid_ref.world import world

TOLERANCE_MS = 83
_LEAST_PEAK = 0.1  # of the largest motion that the localizer was trained on
_LONG_S = 20
_LONG_SHARE = 6  # one long sound for so many short ones

# (n,) float32 sound and a number of frames to (number,) motion.
Score = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Heard:
    """What was heard in one sound; times in seconds.

    keyframes: of those that the motion curve leads to. rival: onsets by librosa's detector, None
    where it is not installed.
    """

    sound: Sound
    peaks: np.ndarray
    keyframes: np.ndarray
    rival: np.ndarray | None


class Ears:
    """The localizer of a bundle."""

    def __init__(self, bundle: str, engine: str) -> None:
        loaded = Bundle.load(bundle)
        spec = choose_engine(engine, loaded).spec
        graphs = OpenGraphs(loaded, spec, None, Budget(loaded, spec, None))
        self._stages = StageRunner(graphs, {"localizer": loaded.graph("localizer")})
        self.size = loaded.dimensions

    def __call__(self, waveform: np.ndarray, num_frames: int) -> np.ndarray:
        return score_motion(self._stages, waveform, num_frames)


def hear(sound: Sound, score: Score, size: Dimensions) -> Heard:
    """Listen to one sound.

    Peaks of the motion curve stand out by a fifth of its range, as strikes in pictures do.
    """
    num_frames = round(sound.seconds * size.fps)
    motion = score(sound.waveform, num_segment_frames(num_frames, size))
    peaks = find_extremes(motion[:num_frames], _LEAST_PEAK)
    keyframes = all_keyframes(plan_segments(num_frames, motion, size))
    return Heard(sound, peaks / size.fps, keyframes / size.fps, _rival_onsets(sound))


def listen(score: Score, size: Dimensions, count: int) -> dict[str, list[Heard]]:
    """What is heard in `count` sounds of 2 s at each level of noise, in long and in drawn ones."""
    heard: dict[str, list[Heard]] = {}
    for seconds, number in ((2, count), (_LONG_S, max(1, count // _LONG_SHARE))):
        for noise_db in NOISE_LEVELS_DB:
            sounds = compose_sounds(number, seconds, noise_db)
            heard[f"{seconds} s, {name_level(noise_db)}"] = [
                hear(sound, score, size) for sound in sounds
            ]
    heard["2 s, drawn"] = [hear(sound, score, size) for sound in _drawn_sounds(count)]
    return heard


def format_ears(heard: dict[str, list[Heard]]) -> str:
    """Two tables: by length and noise, and by kind."""
    with_rival = all(h.rival is not None for sounds in heard.values() for h in sounds)
    header = ["sounds", "events", f"F1 at {TOLERANCE_MS} ms", "recall", "precision", "at 42 ms"]
    header += ["events at a keyframe", *(["librosa's detector"] if with_rival else [])]
    rows = []
    for name, sounds in heard.items():
        at, near = (agree(_clips(sounds), ms) for ms in (TOLERANCE_MS, 42))
        events = sum(len(h.sound.events) for h in sounds)
        row = [name, str(events), with_interval(at.f1, at.f1_interval), two(at.recall)]
        row += [two(at.precision), two(near.f1), two(_share_at_keyframes(sounds))]
        rows.append(row + ([two(_rival_f1(sounds))] if with_rival else []))
    names = [name for name in heard if name.startswith("2 s") and "drawn" not in name]
    kinds = sorted({h.sound.kind for name in names for h in heard[name]})
    by_kind = [[kind, *(two(_kind_f1(heard[name], kind)) for name in names)] for kind in kinds]
    return f"{Table(header, rows)}\n\n{Table(['kind, F1', *names], by_kind)}\n"


def _kind_f1(heard: Sequence[Heard], kind: str) -> float | None:
    clips = _clips([h for h in heard if h.sound.kind == kind])
    return agree(clips, TOLERANCE_MS).f1 if clips else None


def _clips(heard: Sequence[Heard]) -> list[TimedClip]:
    return [TimedClip(h.peaks, h.sound.events, h.sound.seconds) for h in heard]


def _share_at_keyframes(heard: Sequence[Heard]) -> float:
    """Share of the events within a frame of a keyframe."""
    near = [
        np.abs(h.sound.events[:, None] - h.keyframes).min(axis=1) <= 0.0425
        for h in heard
        if len(h.sound.events)
    ]
    return float(np.concatenate(near).mean())


def _drawn_sounds(count: int) -> list[Sound]:
    """Sounds of the first clips of the test split, drawn small: only their sound counts."""
    clips = [world.make_clip(seed, 24, 40) for seed in SPLITS["test"][:count]]
    return [Sound(clip.kind, clip.waveform, clip.events) for clip in clips]


def _rival_f1(heard: Sequence[Heard]) -> float:
    clips = [
        TimedClip(h.rival, h.sound.events, h.sound.seconds) for h in heard if h.rival is not None
    ]
    return agree(clips, TOLERANCE_MS).f1


def _librosa() -> ModuleType | None:
    return import_module("librosa") if find_spec("librosa") else None


def _rival_onsets(sound: Sound) -> np.ndarray | None:
    """(n,) seconds, by librosa's onset detector as it is by default."""
    librosa = _librosa()
    if librosa is None:
        return None
    onsets: np.ndarray = librosa.onset.onset_detect(y=sound.waveform, sr=SAMPLE_RATE, units="time")
    return onsets
