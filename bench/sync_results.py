"""What was seen in each clip, and the scores of a whole set of clips, as JSON values."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sync_score as score
from sync_clips import Film
from sync_motion import MEASURES, find_strikes
from sync_picture import Picture

from keyvid.errors import MediaError

SCORES_FILE = "scores.json"
KIND_TOLERANCE_MS = 83  # of scores per kind and with other sounds


@dataclass(frozen=True)
class Record:
    """What was heard and seen in one clip; times in seconds.

    strikes: by measure. The rest is known only of generated clips: true_strikes, seen in the true
    clip; keyframes, times; picture; seconds that it took; and with another sound than its own,
    own_events, and lag_ms of the motion behind that with its own sound.
    """

    name: str
    kind: str
    event: str
    duration: float
    events: list[float]
    strikes: dict[str, list[float]]
    true_strikes: dict[str, list[float]] | None = None
    keyframes: list[float] | None = None
    picture: Picture | None = None
    seconds: float | None = None
    own_events: list[float] | None = None
    lag_ms: float | None = None

    def timed(self, measure: str) -> score.TimedClip:
        return self._timed(self.strikes, self.events, measure)

    def timed_truth(self, measure: str) -> score.TimedClip:
        return self._timed(self.true_strikes or {}, self.events, measure)

    def timed_own(self, measure: str) -> score.TimedClip:
        """What was seen against the events of the clip's own sound."""
        return self._timed(self.strikes, self.own_events or [], measure)

    def _timed(
        self, strikes: dict[str, list[float]], events: list[float], measure: str
    ) -> score.TimedClip:
        return score.TimedClip(np.array(strikes[measure]), np.array(events), self.duration)


def observe(film: Film, **known: Any) -> Record:
    """The record of a film; `known` are fields beyond what its frames tell."""
    return Record(
        film.name,
        film.kind,
        film.event,
        film.duration,
        [round(float(event), 4) for event in film.events],
        see_strikes(film),
        **known,
    )


def see_strikes(film: Film) -> dict[str, list[float]]:
    """Seconds of strikes by measure."""
    found = find_strikes(film.frames, film.times, film.event)
    return {measure: [round(float(t), 4) for t in times] for measure, times in found.items()}


def summarise(
    made_with: dict[str, Any], records: Sequence[Record], controls: dict[str, list[Record]]
) -> dict[str, Any]:
    """All scores and the records they come from.

    Args:
        controls: records of clips with another sound, by that sound's name in `SOUNDS`.
    """
    seconds = [record.seconds for record in records if record.seconds is not None]
    have_truth = all(record.true_strikes is not None for record in records)
    kinds = sorted({record.kind for record in records})
    return {
        "made_with": made_with,
        "clips": len(records),
        "clips_with_events": len(_striking(records)),
        "events": sum(len(record.events) for record in records),
        "seconds_per_clip": _median(seconds),
        "generated": {m: _score([r.timed(m) for r in records]) for m in MEASURES},
        "true": {m: _score([r.timed_truth(m) for r in records]) for m in MEASURES}
        if have_truth
        else None,
        "kinds": {kind: _score_kind([r for r in records if r.kind == kind]) for kind in kinds},
        "controls": {sound: _score_control(rs, records) for sound, rs in controls.items() if rs},
        "keyframes": _score_keyframes(records),
        "picture": _score_pictures(records),
        "records": [asdict(record) for record in records],
        "control_records": {
            sound: [asdict(record) for record in rs] for sound, rs in controls.items()
        },
    }


def read_records(folder: Path) -> list[Record]:
    """The clips that a folder of results was scored on.

    Raises:
        MediaError: there are none.
    """
    path = folder / SCORES_FILE
    try:
        records = json.loads(path.read_text())["records"]
        return [Record(**{**record, "picture": None}) for record in records]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MediaError(
            f"{path}: not the scores of a run ({error}); give the --out folder of one"
        ) from error


def _striking(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.events]


def _score(clips: Sequence[score.TimedClip]) -> dict[str, Any]:
    """Agreement over the clips with events, false strikes over those without."""
    striking = [clip for clip in clips if len(clip.events)]
    false = [len(clip.strikes) for clip in clips if not len(clip.events)]
    return {
        "at_ms": {
            str(tolerance): asdict(score.agree(striking, tolerance))
            for tolerance in score.TOLERANCES_MS
            if striking
        },
        "median_error_ms": score.median_error_ms(striking),
        "silent_clips": len(false),
        "false_strikes_per_silent_clip": float(np.mean(false)) if false else None,
    }


def _score_kind(records: Sequence[Record]) -> dict[str, Any]:
    have_truth = all(record.true_strikes is not None for record in records)
    return {
        "event": records[0].event,
        "clips": len(records),
        "events": sum(len(record.events) for record in records),
        "generated": {m: _score([r.timed(m) for r in records]) for m in MEASURES},
        "true": {m: _score([r.timed_truth(m) for r in records]) for m in MEASURES}
        if have_truth
        else None,
    }


def _score_control(records: Sequence[Record], all_own: Sequence[Record]) -> dict[str, Any]:
    """F1 to the sound that is heard and to the own one, and of the same clips with their own.

    by_coincidence: F1 to the own sound of strikes that follow the sound that is heard exactly.
    """
    names = {record.name.split("-")[0] for record in records}
    own = [record for record in all_own if record.name in names]
    lags = [record.lag_ms for record in records if record.lag_ms is not None]
    result: dict[str, Any] = {"clips": len(records), "median_lag_ms": _median(lags), "measures": {}}
    followers = [replace(r, strikes=dict.fromkeys(MEASURES, r.events)) for r in records]
    for measure in MEASURES:
        result["measures"][measure] = {
            **_score([record.timed(measure) for record in records]),
            "to_own_sound": _score([record.timed_own(measure) for record in records]),
            "by_coincidence": _score([record.timed_own(measure) for record in followers]),
            "with_own_sound": _score([record.timed(measure) for record in own]),
        }
    return result


def _score_keyframes(records: Sequence[Record]) -> dict[str, float | None] | None:
    """Share of events within a frame (at 24 fps) of a keyframe, and how far keyframes are apart."""
    known = [record for record in records if record.keyframes is not None]
    if not known:
        return None
    near, gaps = [], []
    for record in known:
        keyframes = np.array(record.keyframes)
        gaps.append(float(np.diff([*keyframes, record.duration]).max()))
        for event in record.events:
            near.append(np.abs(keyframes - event).min() * 1000 <= score.TOLERANCES_MS[0] + 0.5)
    return {
        "events_near_a_keyframe": float(np.mean(near)) if near else None,
        "median_longest_gap_s": _median(gaps),
        "longest_gap_s": max(gaps),
    }


def _score_pictures(records: Sequence[Record]) -> dict[str, float | None] | None:
    """Medians over the clips."""
    pictures = [asdict(record.picture) for record in records if record.picture is not None]
    if not pictures:
        return None
    return {
        name: _median([p[name] for p in pictures if p[name] is not None]) for name in pictures[0]
    }


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
