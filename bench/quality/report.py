"""A run, or several beside each other, as tables."""

from collections.abc import Mapping
from typing import Any

from bench.quality.examples import SHIFT_S
from bench.quality.results import (
    ControlScores,
    JudgedClip,
    Run,
    by_kind,
    score_control,
    score_keyframes,
    score_pictures,
)
from keyvid.sampling import UNETS
from keyvid.score.agreement import f1_difference
from keyvid.score.motion import MEASURES
from keyvid.score.report import (
    EXPLANATIONS,
    KIND_TOLERANCE_MS,
    Table,
    agreement_table,
    format_counts,
    kind_f1,
    kind_table,
    number,
    timing_table,
    two,
)
from keyvid.score.results import score_clips, score_kinds

_EXPLANATIONS = {
    **EXPLANATIONS,
    "true clips": "the same scorer on the clips as the world draws them: what can be reached. What "
    "their median error is belongs to the scorer, or to how they look: what comes back more slowly "
    "than it came, or flashes in the first frame after a contact, is seen late. Share: corrected "
    "F1 as a share of theirs.",
    "still, flicker": "pixels that never change in the true clip: PSNR against the picture given; "
    "their standard deviation over time, grey levels.",
    "rest": "PSNR of the frames in the last fifth of the clip in which the true clip rests.",
    "moving": "PSNR of the pixels that change in the true clip, within 0.1 s of an event.",
    "energy": "mean frame difference of the pixels that change in the true clip, relative to it.",
    "moves at the end": "clips in whose last four frames something moves, of those in which "
    "nothing should.",
    "keyframes": "share of events within a frame of one that was generated first; the longest "
    "stretch without one.",
    "other sounds": "the same picture with silence (noise at -60 dB), with the sound of another "
    f"clip of its kind, or with its own events {SHIFT_S:g} s later. F1 to its own sound, which "
    "is not heard, should be what following the other one exactly gives by coincidence.",
}


def format_run(run: Run) -> str:
    """All tables of a run, Markdown."""
    seen = score_clips(run.seen)
    parts: list[object] = [
        f"# Quality of {seen.clips} clips",
        ", ".join(f"{key} {_plain(value)}" for key, value in run.made_with.items()) + ".",
        f"{format_counts(seen)} Median {run.cpu_seconds_per_clip:.1f} s of CPU time a clip.",
        "## Do strikes fall on the sound?",
        _agreement(run),
        timing_table({"generated": seen, "true": score_clips(run.truth)}),
        f"## By kind, within {KIND_TOLERANCE_MS} ms",
        _kinds(run),
    ]
    if run.controls:
        parts += ["## With other sounds", _controls(run)]
    parts += [
        "## Picture (medians over clips)",
        Table(["kind", *_PICTURE], [[k, *_picture_cells(c)] for k, c in by_kind(run.clips)]),
        _keyframes(run),
        "## What the words mean",
        "\n".join(f"- **{name}**: {meaning}" for name, meaning in _EXPLANATIONS.items()),
    ]
    return "\n\n".join(map(str, parts)) + "\n"


def format_price_list(runs: Mapping[str, Run], likeness: Mapping[str, float | None]) -> str:
    """A line per run, with its difference from the first and the interval of that.

    The U-Nets' columns say how many steps run how many guidance branches.

    Args:
        likeness: PSNR in dB of the clips of each run against those of the first.
    """
    pose, difference = MEASURES[1], MEASURES[0]
    header = ["variant", "F1 at 42 ms, pose", "minus first", "F1 at 83 ms, pose"]
    header += ["F1 at 83 ms, frame difference", "minus first", "false strikes, pose"]
    header += [*_PICTURE, "like first", *UNETS, "TFLOP", "CPU s a clip"]
    first = next(iter(runs.values()))
    rows = []
    for name, run in runs.items():
        by = score_clips(run.seen).by
        at = {m: by[m].at_ms for m in MEASURES}
        rows.append(
            [
                name,
                two(at[pose][42].f1 if at[pose] else None),
                _difference(first, run, pose, 42),
                two(at[pose][83].f1 if at[pose] else None),
                two(at[difference][83].f1 if at[difference] else None),
                _difference(first, run, difference, 83),
                number(by[pose].false_strikes, ".1f"),
                *_picture_cells(run.clips),
                "-" if run is first else number(likeness[name], ".1f", " dB"),
                *run.made_with["steps x branches"].values(),
                number(run.made_with["TFLOP"], ".2f"),
                f"{run.cpu_seconds_per_clip:.1f}",
            ]
        )
    return f"{Table(header, rows)}\n"


_PICTURE = ["still", "flicker", "rest", "moving", "energy", "moves at the end"]


def _picture_cells(clips: list[JudgedClip]) -> list[str]:
    scores = score_pictures(clips)
    return [
        number(scores["still_psnr_db"], ".1f", " dB"),
        number(scores["flicker"], ".2f"),
        number(scores["rest_psnr_db"], ".1f", " dB"),
        number(scores["moving_psnr_db"], ".1f", " dB"),
        number(scores["motion_energy"], ".2f"),
        f"{scores['moving_at_end']} of {scores['resting_at_end']}",
    ]


def _difference(first: Run, run: Run, measure: str, tolerance_ms: int) -> str:
    """F1 minus that of the first on the clips with events, with its 95 % interval."""
    sides = [[clip.timed(measure) for clip in r.seen if clip.events] for r in (first, run)]
    if run is first or not sides[0]:
        return "-"
    difference, (low, high) = f1_difference(sides[0], sides[1], tolerance_ms)
    return f"{difference:+.2f} ({low:+.2f} to {high:+.2f})"


def _agreement(run: Run) -> Table:
    """The agreement of the generated clips, and how far the true ones come."""
    table, truth = agreement_table(score_clips(run.seen)), score_clips(run.truth)
    generated = score_clips(run.seen)
    table.header += ["true clips: F1", "corrected", "share"]
    wanted = [(m, t, best) for m in MEASURES for t, best in truth.by[m].at_ms.items()]
    for row, (measure, tolerance, best) in zip(table.rows, wanted, strict=True):
        corrected = generated.by[measure].at_ms[tolerance].corrected
        share = corrected / best.corrected if best.corrected > 0 else None
        row += [two(best.f1), two(best.corrected), two(share)]
    return table


def _kinds(run: Run) -> Table:
    kinds, truth = score_kinds(run.seen), score_kinds(run.truth)
    table = kind_table(run.seen, kinds)
    table.header += [f"true clips: {measure}" for measure in MEASURES]
    for row, kind in zip(table.rows, kinds, strict=True):
        row += [kind_f1(truth[kind].by[measure], interval=False) for measure in MEASURES]
    return table


def _controls(run: Run) -> str:
    header = ["sound", "clips", "seen by", "false strikes per clip", "F1 to what is heard"]
    header += ["F1 with its own sound", "F1 to its own, not heard", "the same by coincidence"]
    scores = {sound: score_control(clips, run.clips) for sound, clips in run.controls.items()}
    rows = []
    for sound, control in scores.items():
        for measure in MEASURES:
            cells = _control_cells(control, measure)
            rows.append([sound, str(control.clips), measure, *cells])
    table = str(Table(header, rows))
    lag = scores["shifted"].median_lag_ms if "shifted" in scores else None
    if lag is None:
        return table
    return (
        f"{table}\n\nWith the sound {1000 * SHIFT_S:.0f} ms later the motion comes {lag:.0f} ms "
        "later (median over clips, by correlation of the frame differences)."
    )


def _control_cells(control: ControlScores, measure: str) -> list[str]:
    heard = control.heard[measure]
    if not heard.at_ms:  # silence
        return [two(heard.false_strikes), *"----"]
    return [
        "-",
        kind_f1(heard),
        kind_f1(control.with_own_sound[measure], interval=False),
        kind_f1(control.own[measure]),
        kind_f1(control.coincidence[measure], interval=False),
    ]


def _keyframes(run: Run) -> str:
    scores = score_keyframes(run.clips)
    near = scores["events_near_a_keyframe"]
    return (
        f"Events within a frame of a keyframe: {number(near and 100 * near, '.1f', ' %')}. "
        "Longest stretch without a keyframe, median clip and worst: "
        f"{number(scores['median_longest_gap_s'], '.2f', ' s')}, "
        f"{number(scores['longest_gap_s'], '.2f', ' s')}."
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) + ")"
    return str(value)
