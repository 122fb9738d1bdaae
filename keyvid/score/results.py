"""What is seen in each clip, the scores of a set of clips, and both as a JSON file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.errors import MediaError
from keyvid.runtime.media.sources import shown
from keyvid.score.agreement import TOLERANCES_MS, Agreement, TimedClip, agree, median_error_ms
from keyvid.score.film import Film, list_videos, read_films
from keyvid.score.motion import MEASURES, find_strikes


@dataclass(frozen=True)
class Observation:
    """What was heard and seen in one clip; times in seconds, `strikes` by measure."""

    name: str
    kind: str
    event: str
    duration: float
    events: list[float]
    strikes: dict[str, list[float]]

    def timed(self, measure: str) -> TimedClip:
        """What was seen by one measure beside what was heard."""
        return TimedClip(np.array(self.strikes[measure]), np.array(self.events), self.duration)


@dataclass(frozen=True)
class MeasureScores:
    """Scores by one measure.

    at_ms: agreement over the clips with events, by tolerance; empty without such clips.
    false_strikes: strikes seen per clip without events; None without such clips.
    """

    at_ms: dict[int, Agreement]
    median_error_ms: float | None
    false_strikes: float | None


@dataclass(frozen=True)
class Scores:
    """Scores of a set of clips, `by` measure."""

    clips: int
    clips_with_events: int
    events: int
    by: dict[str, MeasureScores]


def observe(film: Film) -> Observation:
    """What is seen in a film; times are rounded to tenths of a millisecond."""
    found = find_strikes(film.frames, film.times, film.event)
    strikes = {measure: _rounded(times) for measure, times in found.items()}
    events = _rounded(film.events)
    return Observation(film.name, film.kind, film.event, film.duration, events, strikes)


def score_clips(clips: Sequence[Observation]) -> Scores:
    """Scores of at least one clip; the same each time."""
    return Scores(
        clips=len(clips),
        clips_with_events=sum(bool(clip.events) for clip in clips),
        events=sum(len(clip.events) for clip in clips),
        by={measure: score_timing([clip.timed(measure) for clip in clips]) for measure in MEASURES},
    )


def score_timing(clips: Sequence[TimedClip]) -> MeasureScores:
    """Agreement over the clips with events, false strikes over those without."""
    striking = [clip for clip in clips if len(clip.events)]
    false = [len(clip.strikes) for clip in clips if not len(clip.events)]
    return MeasureScores(
        at_ms={t: agree(striking, t) for t in TOLERANCES_MS} if striking else {},
        median_error_ms=median_error_ms(striking),
        false_strikes=float(np.mean(false)) if false else None,
    )


def score_kinds(clips: Sequence[Observation]) -> dict[str, Scores]:
    """Scores of the clips of each kind, by its name, sorted."""
    kinds = sorted({clip.kind for clip in clips})
    return {kind: score_clips([clip for clip in clips if clip.kind == kind]) for kind in kinds}


def to_json(clips: Sequence[Observation]) -> dict[str, Any]:
    """JSON values: all scores, those of each kind, and the observations they come from."""
    return {
        "scores": asdict(score_clips(clips)),
        "kinds": {kind: asdict(scores) for kind, scores in score_kinds(clips).items()},
        "clips": [asdict(clip) for clip in clips],
    }


def read_clips(path: Path) -> list[Observation]:
    """The clips of a folder of videos, or those that a result file was made of.

    Videos that cannot be read are left out, with a warning.

    Raises:
        MediaError: what is missing or wrong.
    """
    if path.is_dir():
        return [observe(film) for film in read_films(list_videos(path))]
    try:
        return [_from_json(values) for values in json.loads(path.read_text())["clips"]]
    except FileNotFoundError:
        raise MediaError(
            f"{shown(path)}: does not exist; give a folder of videos or a file that --json wrote"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise MediaError(
            f"{shown(path)}: not a result of keyvid-score ({type(error).__name__}: {error}); "
            "give a folder of videos or a file that --json wrote"
        ) from error


def _from_json(values: dict[str, Any]) -> Observation:
    strikes = {measure: [float(t) for t in values["strikes"][measure]] for measure in MEASURES}
    events = [float(t) for t in values["events"]]
    name, kind, event = (str(values[key]) for key in ("name", "kind", "event"))
    return Observation(name, kind, event, float(values["duration"]), events, strikes)


def _rounded(times: np.ndarray) -> list[float]:
    return [round(float(time), 4) for time in times]
