"""What each part of the method is good for: bench/sync with one thing changed at a time.

\b
python bench/ablations.py                   all variants, resumable
python bench/ablations.py --variant uniform --variant full
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import sync_score as score
from sync import score_generated, write_results
from sync_clips import SPLITS
from sync_make import Recipe
from sync_report import markdown_table, number
from sync_results import Record, read_records

from keyvid.command import run_command
from keyvid.runtime.outputs import write_atomic
from keyvid.sampling import parse_settings

_DEFAULT = "default"
_POSE, _DIFFERENCE = "tracked pose", "frame difference"
_GUIDANCE = (1, 1.5, 2, 4, 7, 10)  # beside the packaged model's 2.5
_STEPS = (15, 25, 50, 90)

# Variant -> what it changes of the default recipe: fields of `Recipe`, settings as texts.
VARIANTS: dict[str, dict[str, Any]] = {
    _DEFAULT: {},
    "uniform": {"keyframes": "uniform"},
    "no-frame-index": {"without": "frame-index"},
    "no-first-frame": {"without": "first-frame"},
    "full": {"settings": ["temporal=full"]},
    **{f"guidance-{scale}": {"settings": [f"guidance_audio={scale}"]} for scale in _GUIDANCE},
    **{
        f"{solver}-{steps}": {"settings": [f"solver={solver}", f"steps={steps}"]}
        for solver in ("dpm", "ddim")
        for steps in _STEPS
    },
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_ablate, "bench/ablations.py", args)


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--variant", "chosen", multiple=True, type=click.Choice(list(VARIANTS)))
@click.option("--clips", default=60, show_default=True, type=click.IntRange(1))
@click.option("--split", type=click.Choice(list(SPLITS)), default="test", show_default=True)
@click.option("--bundle", default="tiny", show_default=True)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1))
@click.option(
    "--out",
    default="ablation-results",
    show_default=True,
    type=click.Path(path_type=Path),
    help="A folder per variant and the table; what is finished there is not made again.",
)
def _ablate(
    chosen: tuple[str, ...], clips: int, split: str, bundle: str, jobs: int, out: Path
) -> None:
    names = [name for name in VARIANTS if name in chosen or name == _DEFAULT or not chosen]
    runs: dict[str, dict[str, Any]] = {}
    records: dict[str, list[Record]] = {}
    for name in names:
        click.echo(name, err=True)
        changed = {**VARIANTS[name]}
        settings = parse_settings(changed.pop("settings", []))
        recipe = Recipe(bundle=bundle, settings=settings, **changed)
        scored = score_generated(recipe, split, clips, 0, jobs, out / name)
        write_results(out / name, scored)
        runs[name], records[name] = scored[0], read_records(out / name)
        table = _table(runs, records)
        write_atomic(out / "table.md", table.encode())
    click.echo(table, nl=False)


def _table(runs: dict[str, dict[str, Any]], records: dict[str, list[Record]]) -> str:
    """A line per variant, the difference from the first with its interval."""
    header = ["variant", "F1 at 42 ms, pose", "minus default", "F1 at 83 ms, pose"]
    header += ["F1 at 83 ms, frame difference", "minus default", "false strikes, pose"]
    header += ["still PSNR", "flicker", "motion energy", "s a clip"]
    rows = []
    for name, run in runs.items():
        pose, difference = (run["generated"][measure] for measure in (_POSE, _DIFFERENCE))
        picture, own = run["picture"], records[name]
        rows.append(
            [
                name,
                f"{pose['at_ms']['42']['f1']:.2f}",
                _difference(records[_DEFAULT], own, _POSE, 42),
                f"{pose['at_ms']['83']['f1']:.2f}",
                f"{difference['at_ms']['83']['f1']:.2f}",
                _difference(records[_DEFAULT], own, _DIFFERENCE, 83),
                number(pose["false_strikes_per_silent_clip"], ".1f"),
                f"{picture['still_psnr_db']:.1f} dB",
                f"{picture['flicker']:.1f}",
                f"{picture['motion_energy']:.2f}",
                f"{run['seconds_per_clip']:.1f}",
            ]
        )
    return markdown_table(header, rows) + "\n"


def _difference(
    default: Sequence[Record], own: Sequence[Record], measure: str, tolerance_ms: float
) -> str:
    """F1 minus that of the default on the clips that both have, with its 95 % interval."""
    if default is own:
        return "-"
    pairs = [[record.timed(measure) for record in side if record.events] for side in (default, own)]
    difference, (low, high) = score.f1_difference(*pairs, tolerance_ms)
    return f"{difference:+.2f} ({low:+.2f} to {high:+.2f})"


if __name__ == "__main__":
    sys.exit(main())
