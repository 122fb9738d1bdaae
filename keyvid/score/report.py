"""Scores as tables: Markdown whose columns stand in line, to be read as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyvid.counting import counted
from keyvid.errors import MediaError
from keyvid.score.agreement import TOLERANCES_MS, agree, f1_difference
from keyvid.score.bootstrap import Interval
from keyvid.score.motion import MEASURES
from keyvid.score.results import MeasureScores, Observation, Scores, score_clips, score_kinds

KIND_TOLERANCE_MS = 83  # of scores per kind

EXPLANATIONS = {
    "event": "a moment at which the sound says that something happens; known, not guessed.",
    "frame difference": "strikes are peaks of the mean difference of neighbouring frames.",
    "tracked pose": "the frames are blurred widely, so that only where things are is left. An "
    "event of kind contact is where that is furthest from the first frame, one of kind change "
    "where it changes fastest.",
    "F1": "strikes seen and events matched one to one within so many milliseconds: 1 when each "
    "event is seen and nothing else. In brackets the 95 % interval by bootstrap over clips.",
    "recall, precision": "share of the events that were seen; share of the strikes seen that are "
    "events.",
    "chance, corrected": "F1 of the same clips with their sounds turned around by random amounts; "
    "F1 on a scale where that is 0 and perfection 1.",
    "median error": "strike minus event, signed: a delay of everything shows only here.",
    "false strikes": "strikes seen per clip without events.",
}


@dataclass
class Table:
    """A header and rows of cells."""

    header: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        """Markdown, each column as wide as its widest cell."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = [self.header, ["-" * width for width in widths], *self.rows]
        padded = [[f"{c:<{w}}" for c, w in zip(line, widths, strict=True)] for line in lines]
        return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def format_scores(clips: Sequence[Observation]) -> str:
    """All tables of a set of clips."""
    scores, kinds = score_clips(clips), score_kinds(clips)
    parts = [format_counts(scores), agreement_table(scores), timing_table({"": scores})]
    if len(kinds) > 1:
        parts += [f"By kind, within {KIND_TOLERANCE_MS} ms:", kind_table(clips, kinds)]
    return "\n\n".join(map(str, parts)) + "\n"


def format_counts(scores: Scores) -> str:
    """How many clips and events there are."""
    silent = scores.clips - scores.clips_with_events
    return (
        f"{counted(scores.events, 'event')} in {counted(scores.clips_with_events, 'clip')}; "
        f"{counted(silent, 'clip')} without events."
    )


def agreement_table(scores: Scores) -> Table:
    """A row per measure and tolerance; none without events."""
    header = ["within", "seen by", "F1", "recall", "precision", "chance", "corrected"]
    rows = []
    for measure, by_measure in scores.by.items():
        for tolerance, at in by_measure.at_ms.items():
            numbers = [two(value) for value in (at.recall, at.precision, at.chance)]
            corrected = with_interval(at.corrected, at.corrected_interval)
            f1 = with_interval(at.f1, at.f1_interval)
            rows.append([f"{tolerance} ms", measure, f1, *numbers, corrected])
    return Table(header, rows)


def timing_table(sets: Mapping[str, Scores]) -> Table:
    """Signed error and false strikes of sets of clips, by the name of the set ("" for the one)."""
    named = any(sets)
    rows = [
        [
            *([name] if named else []),
            measure,
            number(by_measure.median_error_ms, "+.0f", " ms"),
            two(by_measure.false_strikes),
        ]
        for name, scores in sets.items()
        for measure, by_measure in scores.by.items()
    ]
    header = ["seen by", "median error", "false strikes per clip without events"]
    return Table([*(["clips"] if named else []), *header], rows)


def kind_table(clips: Sequence[Observation], kinds: Mapping[str, Scores]) -> Table:
    """A row per kind."""
    events = {clip.kind: clip.event for clip in clips}
    header = ["kind", "event", "clips", "events"]
    for measure in MEASURES:
        header += [f"F1, {measure}", "median error"]
    rows = []
    for kind, scores in kinds.items():
        row = [kind, events[kind], str(scores.clips), str(scores.events)]
        for by_measure in scores.by.values():
            row += [kind_f1(by_measure), number(by_measure.median_error_ms, "+.0f", " ms")]
        rows.append(row)
    return Table(header, rows)


def format_comparison(first: Sequence[Observation], second: Sequence[Observation]) -> str:
    """Table of the difference of two sets on the clips that both have.

    Raises:
        MediaError: they have no clip with events in common, or not the same events.
    """
    others = {clip.name: clip for clip in second}
    pairs = [(clip, others[clip.name]) for clip in first if clip.name in others and clip.events]
    if not pairs:
        raise MediaError("the two have no clip with events in common; nothing to compare")
    for a, b in pairs:
        if a.events != b.events:
            raise MediaError(
                f"clip {a.name} has events at {a.events} s in one and at {b.events} s in the "
                "other; compare two versions of the same clips"
            )
    rows = []
    for measure in MEASURES:
        a_clips, b_clips = ([c.timed(measure) for c in side] for side in zip(*pairs, strict=True))
        for tolerance in TOLERANCES_MS:
            a_f1, b_f1 = (agree(clips, tolerance).f1 for clips in (a_clips, b_clips))
            difference, interval = f1_difference(a_clips, b_clips, tolerance)
            clear = "no" if interval[0] <= 0 <= interval[1] else "yes"
            bounds = f"{interval[0]:+.3f} to {interval[1]:+.3f}"
            cells = [f"{a_f1:.3f}", f"{b_f1:.3f}", f"{difference:+.3f}", bounds, clear]
            rows.append([f"{tolerance} ms", measure, *cells])
    header = ["within", "seen by", "F1 of A", "F1 of B", "B - A", "95 % interval", "excludes 0"]
    return (
        f"{counted(len(pairs), 'clip')} with events in both; "
        "bootstrap over clips, both together.\n\n"
        f"{Table(header, rows)}\n"
    )


def kind_f1(scores: MeasureScores, interval: bool = True) -> str:
    """F1 within `KIND_TOLERANCE_MS`."""
    at = scores.at_ms.get(KIND_TOLERANCE_MS)
    if at is None:
        return "-"
    return with_interval(at.f1, at.f1_interval) if interval else two(at.f1)


def with_interval(value: float, interval: Interval) -> str:
    """A score and its interval, two digits."""
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def two(value: float | None) -> str:
    """A score, two digits."""
    return number(value, ".2f")


def number(value: float | None, form: str, unit: str = "") -> str:
    """A value in a format, "-" for None."""
    return "-" if value is None else f"{value:{form}}{unit}"
