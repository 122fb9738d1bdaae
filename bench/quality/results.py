"""What is seen in generated clips beside the true ones, and the scores of a run, as JSON values."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from bench.quality.picture import PictureScores
from keyvid.score.agreement import TOLERANCES_MS, TimedClip
from keyvid.score.motion import MEASURES
from keyvid.score.results import MeasureScores, Observation, score_timing, to_json


@dataclass(frozen=True)
class JudgedClip:
    """A clip with its own sound.

    keyframes: seconds. cpu_seconds: CPU time that it took.
    """

    seen: Observation
    truth: Observation
    picture: PictureScores
    keyframes: list[float]
    cpu_seconds: float


@dataclass(frozen=True)
class ControlClip:
    """A clip with another sound.

    seen: beside the events of the sound that is heard. own_events: of its own, which is not.
    lag_ms: of its motion behind that with its own sound.
    """

    seen: Observation
    own_events: list[float]
    lag_ms: float | None = None

    @property
    def seed(self) -> str:
        """Which clip it is, whatever its sound."""
        return self.seen.name.split("-")[0]

    def timed_own(self, measure: str) -> TimedClip:
        """What was seen against the events of the clip's own sound."""
        return replace(self.seen, events=self.own_events).timed(measure)


@dataclass(frozen=True)
class Run:
    """All clips of one recipe; `controls` by sound."""

    made_with: dict[str, Any]
    clips: list[JudgedClip]
    controls: dict[str, list[ControlClip]]

    @property
    def seen(self) -> list[Observation]:
        """What was seen in the clips with their own sounds."""
        return [clip.seen for clip in self.clips]

    @property
    def truth(self) -> list[Observation]:
        """What is seen in the true clips."""
        return [clip.truth for clip in self.clips]

    @property
    def cpu_seconds_per_clip(self) -> float:
        """Median."""
        return float(np.median([clip.cpu_seconds for clip in self.clips]))

    def to_json(self) -> dict[str, Any]:
        """A result file of `keyvid-score`, and what is known beyond it."""
        return {
            **to_json(self.seen),
            "made_with": self.made_with,
            "true": to_json(self.truth),
            "pictures": {kind: score_pictures(clips) for kind, clips in by_kind(self.clips)},
            "keyframes": score_keyframes(self.clips),
            "controls": {
                sound: asdict(score_control(clips, self.clips))
                for sound, clips in self.controls.items()
            },
            "cpu_seconds_per_clip": self.cpu_seconds_per_clip,
            "judged": [
                {"name": c.seen.name, **asdict(c.picture), "cpu_seconds": round(c.cpu_seconds, 2)}
                for c in self.clips
            ],
        }


def by_kind(clips: Sequence[JudgedClip]) -> list[tuple[str, list[JudgedClip]]]:
    """The clips of each kind, sorted by its name, then all of them as "all"."""
    kinds = sorted({clip.seen.kind for clip in clips})
    return [
        *((kind, [clip for clip in clips if clip.seen.kind == kind]) for kind in kinds),
        ("all", list(clips)),
    ]


def score_pictures(clips: Sequence[JudgedClip]) -> dict[str, float | int | None]:
    """Medians over the clips, and how many of those that end at rest move at their end."""
    pictures = [clip.picture for clip in clips]
    names = [field.name for field in fields(PictureScores)]
    medians = {name: _median([getattr(picture, name) for picture in pictures]) for name in names}
    at_end = [p.moves_at_end for p in pictures if p.moves_at_end is not None]
    return {**medians, "moving_at_end": sum(at_end), "resting_at_end": len(at_end)}


@dataclass(frozen=True)
class ControlScores:
    """Clips with another sound, by measure.

    heard, own: against the events of the sound that is heard, and of its own. coincidence: against
    those of its own, of strikes that follow the sound that is heard exactly. with_own_sound: the
    same clips with their own sound.
    """

    clips: int
    median_lag_ms: float | None
    heard: dict[str, MeasureScores]
    own: dict[str, MeasureScores]
    coincidence: dict[str, MeasureScores]
    with_own_sound: dict[str, MeasureScores]


def score_control(controls: Sequence[ControlClip], clips: Sequence[JudgedClip]) -> ControlScores:
    """Scores of clips with one other sound; `clips` are all with their own."""
    seeds = {control.seed for control in controls}
    same = [clip.seen for clip in clips if clip.seen.name in seeds]
    followers = [
        replace(c, seen=replace(c.seen, strikes=dict.fromkeys(MEASURES, c.seen.events)))
        for c in controls
    ]
    return ControlScores(
        clips=len(controls),
        median_lag_ms=_median([control.lag_ms for control in controls]),
        heard={m: score_timing([c.seen.timed(m) for c in controls]) for m in MEASURES},
        own={m: score_timing([c.timed_own(m) for c in controls]) for m in MEASURES},
        coincidence={m: score_timing([c.timed_own(m) for c in followers]) for m in MEASURES},
        with_own_sound={m: score_timing([clip.timed(m) for clip in same]) for m in MEASURES},
    )


def score_keyframes(clips: Sequence[JudgedClip]) -> dict[str, float | None]:
    """Share of events within a frame (at 24 fps) of a keyframe, and how far keyframes are apart."""
    near, gaps = [], []
    for clip in clips:
        keyframes = np.array(clip.keyframes)
        gaps.append(float(np.diff([*keyframes, clip.seen.duration]).max()))
        for event in clip.seen.events:
            near.append(np.abs(keyframes - event).min() * 1000 <= TOLERANCES_MS[0] + 0.5)
    return {
        "events_near_a_keyframe": float(np.mean(near)) if near else None,
        "median_longest_gap_s": _median(gaps),
        "longest_gap_s": max(gaps),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
