"""The scores of a set of clips as tables that can be read without knowing the code."""

from collections.abc import Iterable, Sequence
from typing import Any

import sync_score as score
from sync_clips import SHIFT_S
from sync_motion import MEASURES
from sync_results import KIND_TOLERANCE_MS, Record

from keyvid.errors import MediaError

_COMPARED_MS = (42, 83)
_EXPLANATIONS = {
    "event": "a moment at which the sound says that something happens; known, not guessed.",
    "frame difference": "strikes are peaks of the mean difference of neighbouring frames.",
    "tracked pose": "the frames are blurred widely, so that only where things are is left. An "
    "event of kind *contact* is where that is furthest from the first frame, one of kind *change* "
    "where it changes fastest.",
    "F1": "strikes seen and events matched one to one within so many milliseconds: 1 when each "
    "event is seen and nothing else. In brackets the 95 % interval by bootstrap over clips.",
    "recall, precision": "share of the events that were seen; share of the strikes seen that are "
    "events.",
    "chance": "F1 of the same clips with their sounds turned around by random amounts; *corrected* "
    "is F1 on a scale where chance is 0 and perfection 1.",
    "true clips": "the same scorer on the clips as the world draws them: what can be reached.",
    "median error": "strike minus event, signed: a delay of everything shows only here. What the "
    "true clips have as well is the scorer's, or is in how they look: what comes back more slowly "
    "than it came, or flashes in the first frame after a contact, is seen late.",
    "false strikes": "strikes seen per clip in which nothing happens.",
    "keyframes": "share of events within a frame of one that was generated first; the longest "
    "stretch without one.",
    "what stands still": "pixels that never change in the true clip: PSNR against the picture "
    "given, and flicker, their standard deviation over time.",
    "motion energy": "mean frame difference of the pixels that do move in the true clip, relative "
    "to the true clip.",
    "other sounds": "the same picture with silence (noise at -60 dB), with the sound of another "
    f"clip of its kind, or with its own events {SHIFT_S:g} s later. F1 to its own sound, which "
    "is not heard, should be what following the other one exactly gives by coincidence.",
}


def write_table(summary: dict[str, Any]) -> str:
    """Markdown of what `sync_results.summarise` gives."""
    made_with = ", ".join(f"{key} {_plain(value)}" for key, value in summary["made_with"].items())
    silent = summary["clips"] - summary["clips_with_events"]
    parts = [
        f"# Synchronisation of {summary['clips']} clips",
        f"{made_with}.",
        f"{summary['events']} events in {summary['clips_with_events']} clips; "
        f"{silent} clips in which nothing happens.",
        "## Do strikes fall on the sound?",
        _agreement_table(summary),
        _timing_table(summary),
        f"## By kind, within {KIND_TOLERANCE_MS} ms",
        _kind_table(summary),
    ]
    if summary["controls"]:
        parts += ["## With other sounds", _control_table(summary["controls"])]
    if summary["keyframes"] or summary["picture"]:
        parts += ["## Keyframes and picture", _picture_table(summary)]
    lines = [f"- **{name}**: {meaning}" for name, meaning in _EXPLANATIONS.items()]
    return "\n\n".join([*parts, "## What the words mean", "\n".join(lines)]) + "\n"


def compare(first: Sequence[Record], second: Sequence[Record]) -> str:
    """Markdown of the difference of two runs on the clips that both have.

    Raises:
        MediaError: they have no clip with events in common, or not the same events.
    """
    others = {record.name: record for record in second}
    pairs = [(r, others[r.name]) for r in first if r.name in others and r.events]
    if not pairs:
        raise MediaError("the two runs have no clip with events in common; nothing to compare")
    for a, b in pairs:
        if a.events != b.events:
            raise MediaError(
                f"clip {a.name} has events at {a.events} s in one run and at {b.events} s in the "
                "other; score both runs on the same clips"
            )
    rows = []
    for measure in MEASURES:
        a_clips, b_clips = ([r.timed(measure) for r in side] for side in zip(*pairs, strict=True))
        for tolerance in _COMPARED_MS:
            a_f1, b_f1 = (score.agree(clips, tolerance).f1 for clips in (a_clips, b_clips))
            difference, interval = score.f1_difference(a_clips, b_clips, tolerance)
            clear = "no" if interval[0] <= 0 <= interval[1] else "yes"
            bounds = f"{interval[0]:+.3f} to {interval[1]:+.3f}"
            cells = (f"{a_f1:.3f}", f"{b_f1:.3f}", f"{difference:+.3f}", bounds, clear)
            rows.append([f"{tolerance} ms", measure, *cells])
    header = ["within", "seen by", "F1 of A", "F1 of B", "B - A", "95 % interval", "excludes 0"]
    return (
        f"{len(pairs)} clips with events in both; bootstrap over clips, both runs together.\n\n"
        f"{markdown_table(header, rows)}\n"
    )


def _agreement_table(summary: dict[str, Any]) -> str:
    header = ["within", "seen by", "F1", "recall", "precision", "chance", "corrected"]
    truth = summary["true"]
    if truth:
        header += ["true clips: F1", "corrected", "share of true"]
    rows = []
    for measure in MEASURES:
        for tolerance, scores in summary["generated"][measure]["at_ms"].items():
            row = [
                f"{tolerance} ms",
                measure,
                _with_interval(scores["f1"], scores["f1_interval"]),
                *(_two(scores[name]) for name in ("recall", "precision", "chance")),
                _with_interval(scores["corrected"], scores["corrected_interval"]),
            ]
            if truth:
                best = truth[measure]["at_ms"][tolerance]
                share = scores["corrected"] / best["corrected"] if best["corrected"] > 0 else None
                row += [_two(best["f1"]), _two(best["corrected"]), _two(share)]
            rows.append(row)
    return markdown_table(header, rows)


def _timing_table(summary: dict[str, Any]) -> str:
    rows = []
    for clips in ("generated", "true"):
        if summary[clips]:
            for measure in MEASURES:
                scores = summary[clips][measure]
                rows.append(
                    [
                        clips,
                        measure,
                        number(scores["median_error_ms"], "+.0f", " ms"),
                        _two(scores["false_strikes_per_silent_clip"]),
                    ]
                )
    header = ["clips", "seen by", "median error", "false strikes per clip without events"]
    return markdown_table(header, rows)


def _kind_table(summary: dict[str, Any]) -> str:
    truth = bool(summary["true"])
    header = ["kind", "event", "clips", "events"]
    for measure in MEASURES:
        header += [f"F1, {measure}", "median error"] + (["true clips"] if truth else [])
    rows = []
    for kind, scores in summary["kinds"].items():
        row = [kind, scores["event"], str(scores["clips"]), str(scores["events"])]
        for measure in MEASURES:
            generated = scores["generated"][measure]
            row += [_f1(generated), number(generated["median_error_ms"], "+.0f", " ms")]
            if truth:
                row.append(_f1(scores["true"][measure], interval=False))
        rows.append(row)
    return markdown_table(header, rows)


def _control_table(controls: dict[str, Any]) -> str:
    header = ["sound", "clips", "seen by", "false strikes per clip", "F1 to what is heard"]
    header += ["F1 with its own sound", "F1 to its own, not heard", "the same by coincidence"]
    rows = []
    for sound, control in controls.items():
        for measure, scores in control["measures"].items():
            row = [sound, str(control["clips"]), measure]
            if sound == "silent":
                row += [_two(scores["false_strikes_per_silent_clip"]), *"----"]
            else:
                own, by_coincidence = scores["to_own_sound"], scores["by_coincidence"]
                row += ["-", _f1(scores), _f1(scores["with_own_sound"], interval=False)]
                row += [_f1(own), _f1(by_coincidence, interval=False)]
            rows.append(row)
    table = markdown_table(header, rows)
    lag = controls.get("shifted", {}).get("median_lag_ms")
    if lag is None:
        return table
    return (
        f"{table}\n\nWith the sound {1000 * SHIFT_S:.0f} ms later the motion comes {lag:.0f} ms "
        "later (median over clips, by correlation of the frame differences)."
    )


def _picture_table(summary: dict[str, Any]) -> str:
    keyframes, picture = summary["keyframes"] or {}, summary["picture"] or {}
    near = keyframes.get("events_near_a_keyframe")
    rows = [
        ["events within a frame of a keyframe", number(near and 100 * near, ".1f", " %")],
        [
            "longest stretch without a keyframe, median clip and worst",
            f"{number(keyframes.get('median_longest_gap_s'), '.2f', ' s')}, "
            f"{number(keyframes.get('longest_gap_s'), '.2f', ' s')}",
        ],
        ["what stands still: PSNR", number(picture.get("still_psnr_db"), ".1f", " dB")],
        ["what stands still: flicker", number(picture.get("flicker"), ".2f", " grey levels")],
        ["motion energy, 1 as in the true clip", _two(picture.get("motion_energy"))],
        ["time per clip, median", number(summary["seconds_per_clip"], ".1f", " s")],
    ]
    return markdown_table(["measure (medians over clips)", "value"], rows)


def _f1(scores: dict[str, Any], interval: bool = True) -> str:
    at = scores["at_ms"].get(str(KIND_TOLERANCE_MS))
    if at is None:
        return "-"
    return _with_interval(at["f1"], at["f1_interval"]) if interval else _two(at["f1"])


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _two(value: float | None) -> str:
    return number(value, ".2f")


def number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) + ")"
    return str(value)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
