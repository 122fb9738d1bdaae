"""Do strikes fall on the sound? Generates held-out clips and scores them, or scores yours.

\b
python bench/sync.py                        60 held-out clips with the packaged model
python bench/sync.py --folder DIR           videos of your own, NAME.json with events_s beside each
python bench/sync.py --compare A B          two runs on the same clips
"""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from sync_ablations import ABLATIONS
from sync_clips import SOUNDS, SPLITS, Film, Task, plan_tasks, read_folder
from sync_make import Recipe, claim_folder, describe, generate
from sync_motion import motion_curve
from sync_picture import judge_picture
from sync_plot import MotionLine, draw_motion
from sync_report import compare, write_table
from sync_results import SCORES_FILE, Record, observe, read_records, see_strikes, summarise
from sync_score import find_lag

from keyvid.command import run_command
from keyvid.runtime.outputs import write_atomic
from keyvid.sampling import parse_settings
from keyvid_ref import world

_PLOTTED = 12
_MOST_LAG_S = 0.5
_FOLDER = click.Path(path_type=Path)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_sync, "bench/sync.py", args)


@click.command(
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--clips", default=60, show_default=True, type=click.IntRange(1))
@click.option("--split", type=click.Choice(list(SPLITS)), default="test", show_default=True,
              help="Whose clips: settings are chosen on validation clips.")  # fmt: skip
@click.option("--bundle", default="tiny", show_default=True, help="Model: a name or a folder.")
@click.option("--engine", default="auto", show_default=True, help="As keyvid-doctor lists them.")
@click.option("--seed", default=0, show_default=True, help="Of the sampling noise.")
@click.option("--keyframes", default="auto", show_default=True, help="auto, uniform or 0,3,...")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE",
              help="A sampling setting, such as steps=25; may be repeated.")  # fmt: skip
@click.option("--without", type=click.Choice(list(ABLATIONS)),
              help="Keep this from the networks.")  # fmt: skip
@click.option("--controls", default=0, show_default=True, type=click.IntRange(0),
              help="Also make so many clips with silence, swapped and shifted sound.")  # fmt: skip
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1),
              help="Processes; more than one take one thread each.")  # fmt: skip
@click.option("--out", default="sync-results", show_default=True, type=_FOLDER,
              help="For table, scores, plot and clips; a stopped run goes on there.")  # fmt: skip
@click.option("--folder", type=_FOLDER, help="Score the videos in this folder instead.")
@click.option("--compare", "compared", nargs=2, type=_FOLDER, help="--out folders of two runs.")
def _sync(
    clips: int,
    split: str,
    controls: int,
    jobs: int,
    out: Path,
    folder: Path | None,
    compared: tuple[Path, Path] | None,
    assignments: tuple[str, ...],
    **recipe: Any,
) -> None:
    if compared:
        click.echo(compare(*map(read_records, compared)), nl=False)
        return
    if folder:
        scored = _score_folder(folder)
    else:
        made = Recipe(settings=parse_settings(assignments), **recipe)
        try:
            scored = score_generated(made, split, clips, controls, jobs, out)
        except KeyboardInterrupt:
            click.echo(f"\ninterrupted; {out} keeps the finished clips, run it again", err=True)
            raise SystemExit(130) from None
    click.echo(write_results(out, scored), nl=False)
    click.echo(f"written to {out}: {SCORES_FILE}, table.md, motion.png", err=True)


Scored = tuple[dict[str, Any], list[MotionLine]]


def _score_folder(folder: Path) -> Scored:
    films = read_folder(folder)
    records = [observe(film) for film in films]
    lines = [
        _motion_line(film, record, motion_curve(film.frames, film.times), None)
        for film, record in zip(films[:_PLOTTED], records, strict=False)
    ]
    return summarise({"folder": str(folder)}, records, {}), lines


def score_generated(
    recipe: Recipe, split: str, num_clips: int, num_controls: int, jobs: int, out: Path
) -> Scored:
    """Make the first clips of a split and their controls in `out`; what is seen in them."""
    pipeline = recipe.open()
    size = pipeline.bundle.dimensions
    made_with = {"split": split, **describe(recipe, pipeline)}
    claim_folder(out, made_with)
    tasks = plan_tasks(num_clips, num_controls, size.height, size.width, split)
    records: dict[str, list[Record]] = {sound: [] for sound in SOUNDS}
    lines: list[MotionLine] = []
    curves: dict[int, np.ndarray] = {}  # of the clips with their own sound, by seed
    for task, film, truth, record in _watched(generate(recipe, tasks, out, jobs), len(tasks)):
        curve = motion_curve(film.frames, film.times)
        if task.sound == "own":
            curves[task.seed] = curve
            if len(lines) < _PLOTTED:
                true_curve = motion_curve(truth.frames, truth.times)
                lines.append(_motion_line(film, record, curve, true_curve))
        elif task.sound == "shifted":
            lag = find_lag(curves[task.seed], curve, round(_MOST_LAG_S * world.FPS))
            record = replace(record, lag_ms=1000 * lag / world.FPS)
        records[task.sound].append(record)
    own = records.pop("own")
    return summarise(made_with, own, records), lines


def _watched(made: Iterator[Any], count: int) -> Iterator[tuple[Task, Film, Film, Record]]:
    """Each generated clip as it comes, with what is seen in it, under a bar on stderr."""
    with click.progressbar(made, length=count, label="clips", file=sys.stderr) as bar:
        for task, scene, clip in bar:
            film = scene.filmed(task.name, clip.frames)
            truth = scene.truth
            if task.sound == "own":
                record = observe(
                    film,
                    true_strikes=see_strikes(truth),
                    keyframes=[round(float(k), 4) for k in clip.keyframes / world.FPS],
                    picture=judge_picture(clip.frames, truth.frames),
                    seconds=round(clip.seconds, 2),
                )
            else:
                record = observe(film, own_events=[float(event) for event in truth.events])
            yield task, film, truth, record


def _motion_line(
    film: Film, record: Record, curve: np.ndarray, true_curve: np.ndarray | None
) -> MotionLine:
    title = f"{film.name}, {film.kind}" if film.kind != film.name else film.name
    strikes = record.strikes["tracked pose"]
    return MotionLine(title, film.times, curve, true_curve, record.events, strikes, film.duration)


def write_results(out: Path, scored: Scored) -> str:
    """Write scores, table and plot into `out`; gives the table."""
    summary, lines = scored
    table = write_table(summary)
    plot = io.BytesIO()
    draw_motion(lines, f"Motion of the first {len(lines)} clips").save(plot, "PNG")
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / SCORES_FILE, json.dumps(summary, indent=1).encode() + b"\n")
    write_atomic(out / "table.md", table.encode())
    write_atomic(out / "motion.png", plot.getvalue())
    return table


if __name__ == "__main__":
    sys.exit(main())
