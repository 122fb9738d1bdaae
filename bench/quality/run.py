"""One recipe on the clips of a split: made, judged, and written down in a folder."""

import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from bench.quality.examples import SOUNDS, Example, Task, plan_tasks
from bench.quality.generate import Made, claim_folder, generate, read_frames
from bench.quality.picture import judge_picture, psnr
from bench.quality.recipes import Recipe
from bench.quality.report import format_run
from bench.quality.results import ControlClip, JudgedClip, Run
from keyvid.runtime.media.outputs import write_atomic
from keyvid.score.film import Film
from keyvid.score.motion import motion_curve
from keyvid.score.plot import MAX_PANELS, MotionPanel, draw_motion, motion_panel
from keyvid.score.results import observe
from keyvid_ref.world import world

SCORES_FILE = "scores.json"

_MOST_LAG_S = 0.5


@dataclass(frozen=True)
class Plan:
    """Which clips: the first of a split, and how many of them with each other sound too."""

    split: str = "test"
    clips: int = 60
    controls: int = 0


def run_recipe(recipe: Recipe, plan: Plan, jobs: int, out: Path) -> Run:
    """Make the clips that `out` does not hold yet, judge all, write scores, tables and plot there.

    Raises:
        SettingsError: the recipe is wrong, or `out` holds clips of another one.
    """
    pipeline = recipe.open()
    size = pipeline.bundle.dimensions
    made_with = {"split": plan.split, **recipe.describe(pipeline)}
    claim_folder(out, made_with)
    tasks = plan_tasks(plan.clips, plan.controls, size.height, size.width, plan.split)
    clips: list[JudgedClip] = []
    controls: dict[str, list[ControlClip]] = {}
    panels: list[MotionPanel] = []
    curves: dict[int, np.ndarray] = {}  # of the clips with their own sound, by seed
    made = generate(recipe, tasks, out, jobs)
    with click.progressbar(made, length=len(tasks), label="clips", file=sys.stderr) as bar:
        for task, example, clip in bar:
            film = example.filmed(task.name, clip.frames)
            if task.sound == "own":
                clips.append(_judge(film, example, clip))
                if len(panels) < MAX_PANELS:
                    panels.append(motion_panel(film, clips[-1].seen, example.truth))
                if plan.controls:
                    curves[task.seed] = motion_curve(film.frames, film.times)
            else:
                control = _judge_control(task, film, example, curves[task.seed])
                controls.setdefault(task.sound, []).append(control)
    run = Run(made_with, clips, {sound: controls[sound] for sound in SOUNDS if sound in controls})
    _write(run, panels, out)
    return run


def measure_likeness(first: Path, second: Path) -> float | None:
    """Median PSNR in dB of the clips that the folders of two runs both hold."""
    names = {path.name for path in (first / "clips").glob("*.npz")}
    both = sorted(path for path in (second / "clips").glob("*.npz") if path.name in names)
    if not both:
        return None
    values = [psnr(read_frames(path), read_frames(first / "clips" / path.name)) for path in both]
    return float(np.median(values))


def _judge(film: Film, example: Example, clip: Made) -> JudgedClip:
    truth = example.truth
    return JudgedClip(
        seen=observe(film),
        truth=observe(truth),
        picture=judge_picture(clip.frames, truth.frames, truth.times, truth.events),
        keyframes=[round(float(time), 4) for time in clip.keyframes / world.FPS],
        cpu_seconds=clip.cpu_seconds,
    )


def _judge_control(task: Task, film: Film, example: Example, own_curve: np.ndarray) -> ControlClip:
    lag_ms = None
    if task.sound == "shifted":
        curve = motion_curve(film.frames, film.times)
        lag_ms = 1000 * find_lag(own_curve, curve, round(_MOST_LAG_S * world.FPS)) / world.FPS
    return ControlClip(observe(film), [float(event) for event in example.truth.events], lag_ms)


def _write(run: Run, panels: list[MotionPanel], out: Path) -> None:
    page = io.BytesIO()
    draw_motion(panels, f"Motion of the first {len(panels)} clips").save(page, "PNG")
    write_atomic(out / SCORES_FILE, json.dumps(run.to_json(), indent=1).encode() + b"\n")
    write_atomic(out / "table.md", format_run(run).encode())
    write_atomic(out / "motion.png", page.getvalue())


def find_lag(curve: np.ndarray, later: np.ndarray, most: int) -> float:
    """Frames by which `later` follows `curve`, where their correlation is highest.

    Args:
        curve, later: (T,) any scale.
        most: frames to look in either direction.
    """
    products = np.correlate(later - later.mean(), curve - curve.mean(), "full")
    lags = np.arange(-most - 1, most + 2)
    products = products[len(curve) - 1 + lags]
    best = 1 + int(np.argmax(products[1:-1]))
    left, top, right = products[best - 1 : best + 2]
    bend = 2 * top - left - right
    inside = bend > 0 and top >= max(left, right)
    return float(lags[best] + ((right - left) / (2 * bend) if inside else 0))
