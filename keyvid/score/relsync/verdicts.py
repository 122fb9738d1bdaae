"""RelSync, the KeyVID paper's own measure, with what its judge makes of sounds that are shifted.

The judge looks at twelve frames at 6 fps; how little it sees between them, the shifts tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keyvid.runtime.mel import SAMPLE_RATE
from keyvid.score.bootstrap import Interval, interval, resample
from keyvid.score.relsync.excerpts import Excerpt
from keyvid.score.relsync.judge import Judge

SHIFTS_MS = (42, 83, 167, 333)  # one, two, four and eight frames at 24 fps
_SIGNED_MS = (*(-ms for ms in reversed(SHIFTS_MS)), 0, *SHIFTS_MS)


@dataclass(frozen=True)
class Verdict:
    """Scores of an excerpt, any scale, by how much later its sound is, in ms.

    start: seconds. scores: of the frames; 0 ms is the sound as it is. true_scores: of the true
    frames, None without a true film.
    """

    film: str
    start: float
    scores: dict[int, float]
    true_scores: dict[int, float] | None


@dataclass(frozen=True)
class Estimate:
    """A mean over films of the means of their excerpts, and its 95 % interval by bootstrap."""

    mean: float
    interval: Interval


@dataclass(frozen=True)
class Sensitivity:
    """RelSync, 0 to 100, of frames with a shifted sound against the same with their own.

    50: the judge cannot tell. preferred: share of the excerpts and directions in which it scores
    the own sound higher; 0.5 is chance.
    """

    relsync: Estimate
    preferred: float


@dataclass(frozen=True)
class RelSync:
    """RelSync, 0 to 100, of a set of films.

    Attributes:
        films, excerpts: how many.
        by_shift: against the true films, whose sound stays, by how far the films' own is off in
            ms; 0 is the paper's. None without true films.
        sensitivity, true_sensitivity: of the films, and of the true ones, by the same.
    """

    films: int
    excerpts: int
    by_shift: dict[int, Estimate] | None
    sensitivity: dict[int, Sensitivity]
    true_sensitivity: dict[int, Sensitivity] | None


def judge_excerpts(judge: Judge, film: str, excerpts: Sequence[Excerpt]) -> list[Verdict]:
    """What the judge says of the excerpts of a film."""
    looked = judge.look([excerpt.frames for excerpt in excerpts])
    true_frames = [e.true_frames for e in excerpts if e.true_frames is not None]
    true_looked = judge.look(true_frames) if true_frames else None
    verdicts = []
    for index, excerpt in enumerate(excerpts):
        heard = judge.hear([shift_sound(excerpt.waveform, ms) for ms in _SIGNED_MS])
        sides = [
            _score_sounds(judge, heard, side[index]) if side is not None else None
            for side in (looked, true_looked)
        ]
        assert sides[0] is not None
        verdicts.append(Verdict(film, excerpt.start, sides[0], sides[1]))
    return verdicts


def shift_sound(waveform: np.ndarray, ms: float) -> np.ndarray:
    """(n,) later by `ms`, what goes out at one end coming in at the other."""
    return np.roll(waveform, round(ms / 1000 * SAMPLE_RATE))


def relsync(reference_score: np.ndarray, score: np.ndarray) -> np.ndarray:
    """RelSync, 0 to 1: the softmax over both scores, the second; 0.5 where both fit alike."""
    fits: np.ndarray = 1 / (1 + np.exp(np.asarray(reference_score, np.float64) - score))
    return fits


def score_films(verdicts: Sequence[Verdict]) -> RelSync:
    """RelSync of at least one verdict; the same each time (seeded)."""
    films = np.unique([verdict.film for verdict in verdicts], return_inverse=True)[1]
    scores = _by_shift([verdict.scores for verdict in verdicts])
    true = [v.true_scores for v in verdicts if v.true_scores is not None]
    true_scores = _by_shift(true) if true else None
    by_shift = None
    if true_scores:
        by_shift = {
            ms: _estimate(films, relsync(true_scores[0], np.stack([scores[-ms], scores[ms]])))
            for ms in (0, *SHIFTS_MS)
        }
    return RelSync(
        films=int(films.max()) + 1,
        excerpts=len(verdicts),
        by_shift=by_shift,
        sensitivity=_sensitivity(films, scores),
        true_sensitivity=_sensitivity(films, true_scores) if true_scores else None,
    )


def signed_sensitivity(verdicts: Sequence[Verdict], *, true: bool) -> dict[int, Estimate]:
    """As `Sensitivity.relsync`, for earlier and later sounds apart; empty without true films."""
    films = np.unique([verdict.film for verdict in verdicts], return_inverse=True)[1]
    sides = [verdict.true_scores if true else verdict.scores for verdict in verdicts]
    scores = _by_shift([side for side in sides if side is not None])
    return {ms: _estimate(films, relsync(scores[0], of)[None]) for ms, of in scores.items()}


def to_json(verdicts: Sequence[Verdict], protocol: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values: how it was done, RelSync, and the scores that it comes from."""
    return {
        "protocol": dict(protocol),
        "relsync": asdict(score_films(verdicts)),
        "excerpts": [asdict(verdict) for verdict in verdicts],
    }


def _score_sounds(judge: Judge, heard: np.ndarray, looked: np.ndarray) -> dict[int, float]:
    """Scores of frames with each of the sounds of `_SIGNED_MS`."""
    scores = judge.score(heard, np.broadcast_to(looked, (len(heard), len(looked))))
    return {ms: float(score) for ms, score in zip(_SIGNED_MS, scores, strict=True)}


def _by_shift(scores: Sequence[Mapping[int, float]]) -> dict[int, np.ndarray]:
    """(excerpts,) by shift; nothing without scores."""
    return {ms: np.array([of[ms] for of in scores]) for ms in _SIGNED_MS} if scores else {}


def _sensitivity(films: np.ndarray, scores: Mapping[int, np.ndarray]) -> dict[int, Sensitivity]:
    found = {}
    for ms in SHIFTS_MS:
        values = relsync(scores[0], np.stack([scores[-ms], scores[ms]]))
        found[ms] = Sensitivity(_estimate(films, values), float((values < 0.5).mean()))
    return found


def _estimate(films: np.ndarray, values: np.ndarray) -> Estimate:
    """Of RelSync 0 to 1, (directions, excerpts); `films` (excerpts,) are their films' numbers."""
    excerpts = 100 * values.mean(axis=0)
    means = np.bincount(films, excerpts) / np.bincount(films)
    return Estimate(float(means.mean()), interval(means[resample(len(means))].mean(axis=1)))
