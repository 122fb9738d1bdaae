"""`python -m bench.quality`: what is seen in clips of the synthetic world that a model makes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench.quality.cost import format_costs
from bench.quality.examples import SPLITS
from bench.quality.recipes import VARIANTS, Recipe, read_variants, vary
from bench.quality.report import format_price_list
from bench.quality.results import Run
from bench.quality.run import SCORES_FILE, Plan, measure_likeness, run_recipe
from bench.quality.sheet import default_seeds, write_sheet
from bench.quality.without import ABLATIONS
from keyvid.command import CONTEXT, run_command
from keyvid.errors import SettingsError
from keyvid.runtime.media.outputs import check_output, write_atomic
from keyvid.runtime.pipeline import Pipeline
from keyvid_ref.presets import PRESETS

_PATH = click.Path(path_type=Path)
_FIRST = "first"  # name of the recipe that variants begin from


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_quality, "python -m bench.quality", args)


@click.group(
    help=__doc__,
    context_settings=CONTEXT,
)
def _quality() -> None:
    pass


def _making(command: Callable[..., None]) -> Callable[..., None]:
    """The options of commands that make clips."""
    for option in reversed(
        (
            click.option("--clips", default=60, show_default=True, type=click.IntRange(1)),
            click.option("--split", type=click.Choice(list(SPLITS)), default="test",
                         show_default=True,
                         help="Split of the clips; settings are chosen on validation."),
            click.option("--bundle", default="tiny", show_default=True, help="Name or folder."),
            click.option("--engine", default="auto", show_default=True,
                         help="Engine: auto or a name that keyvid-doctor lists."),
            click.option("--seed", default=0, show_default=True, help="Seed of the noise."),
            click.option("--keyframes", default="auto", show_default=True,
                         help="auto, uniform or 0,3,..."),
            click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
                         help="A sampling setting, such as steps=25; may be repeated."),
            click.option("--jobs", default=1, show_default=True, type=click.IntRange(1),
                         help="Processes; with more than one, each has one thread."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


@_quality.command("score")
@_making
@click.option("--without", type=click.Choice(list(ABLATIONS)),
              help="Withhold this input from the networks.")  # fmt: skip
@click.option("--controls", default=0, show_default=True, type=click.IntRange(0),
              help="Also make this many clips with silent, swapped or shifted sound.")  # fmt: skip
@click.option("--out", default="quality-results", show_default=True, type=_PATH)
def _score(clips: int, split: str, jobs: int, controls: int, out: Path, **recipe: Any) -> None:
    """Make held-out clips and score them.

    --out gets table.md, scores.json (a result that keyvid-score compare reads), motion.png and
    the clips. The same command goes on where it was stopped, and makes more clips with a larger
    --clips.
    """
    _run(Recipe(**recipe), Plan(split, clips, controls), jobs, out)
    click.echo((out / "table.md").read_text(), nl=False)
    click.echo(f"written to {out}: {SCORES_FILE}, table.md, motion.png", err=True)


@_quality.command("compare")
@_making
@click.option("--variant", "chosen", multiple=True, metavar="NAME",
              help=f"Repeatable; default: all. Known: {', '.join(VARIANTS)}.")  # fmt: skip
@click.option("--variants", "file", type=_PATH,
              help='JSON file of others: {"NAME": {"settings": {"steps": 8}}, ...}.')  # fmt: skip
@click.option("--out", default="quality-comparison", show_default=True, type=_PATH)
def _compare(
    clips: int,
    split: str,
    jobs: int,
    chosen: tuple[str, ...],
    file: Path | None,
    out: Path,
    **recipe: Any,
) -> None:
    """The same clips by recipes that differ in one thing each, in one table.

    What the options say is the first recipe, which the others begin from and are compared with.
    --out gets a folder for each, as of score, and table.md; it goes on where it was stopped.
    """
    variants = read_variants(file) if file else VARIANTS
    unknown = set(chosen) - set(variants)
    if unknown:
        raise SettingsError(f"no variant {min(unknown)}; there are {', '.join(variants)}")
    base = Recipe(**recipe)
    recipes = {name: vary(base, variants[name]) for name in chosen or variants}
    for varied in recipes.values():
        varied.open()  # what is wrong with one of them is said before hours of work
    runs: dict[str, Run] = {}
    likeness: dict[str, float | None] = {}
    for name, each in {_FIRST: base, **recipes}.items():
        click.echo(name, err=True)
        runs[name] = _run(each, Plan(split, clips), jobs, out / name)
        likeness[name] = measure_likeness(out / _FIRST, out / name)
        table = format_price_list(runs, likeness)
        write_atomic(out / "table.md", table.encode())
    click.echo(table, nl=False)


def _run(recipe: Recipe, plan: Plan, jobs: int, out: Path) -> Run:
    try:
        return run_recipe(recipe, plan, jobs, out)
    except KeyboardInterrupt as stop:
        stop.add_note(f"{out} keeps the finished clips; run the same command again to continue")
        raise


@_quality.command("ears")
@click.option("--sounds", default=60, show_default=True, type=click.IntRange(6),
              help="Clips of 2 s per noise level; a sixth as many of 20 s.")  # fmt: skip
@click.option("--clips", default=0, show_default=True, type=click.IntRange(0),
              help="Also make this many clips of the examples, clean and at 10 dB.")  # fmt: skip
@click.option("--bundle", default="tiny", show_default=True, help="Name or folder.")
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="Engine: auto or a name that keyvid-doctor lists.",
)
def _ears(sounds: int, clips: int, bundle: str, engine: str) -> None:
    """Does the localizer hear recorded sounds? F1 of its curve's peaks, and of keyframes.

    The sounds are composed of recordings that it was not trained on. If librosa is installed, its
    onset detector is scored for comparison.
    """
    # Recordings are read and drawn sounds made: none of the other commands' processes need it.
    from bench.quality.compose import name_level
    from bench.quality.ears import Ears, format_ears, listen
    from bench.quality.ears_clips import NOISE_LEVELS_DB, format_clips, make_clips

    ears = Ears(bundle, engine)
    click.echo(format_ears(listen(ears, ears.size, sounds)), nl=False)
    if clips:
        pipeline = Pipeline.load(bundle, engine)
        made = {name_level(db): [*make_clips(pipeline, clips, db)] for db in NOISE_LEVELS_DB}
        click.echo(f"\n{format_clips(made)}", nl=False)


@_quality.command("cost")
@click.option("--preset", default="keyvid-512", show_default=True,
              type=click.Choice(list(PRESETS)))  # fmt: skip
def _cost(preset: str) -> None:
    """Cost of each quality of a model preset: steps x branches of both U-Nets, and FLOP.

    Counted on networks without weights; nothing is run.
    """
    click.echo(format_costs(PRESETS[preset]), nl=False)


@_quality.command("sheet")
@click.argument("folder", type=_PATH)
@click.argument("output", type=_PATH)
@click.option("--seed", "seeds", multiple=True, type=int,
              help="Seed of a clip (repeatable); default: one of each kind.")  # fmt: skip
@click.option("--split", type=click.Choice(list(SPLITS)), default="test", show_default=True)
def _sheet(folder: Path, output: Path, seeds: tuple[int, ...], split: str) -> None:
    """Draw a contact sheet of the clips in FOLDER (--out of score) as the JPEG file OUTPUT.

    Every third frame: the true clip above, the generated one below.
    """
    check_output(output, ".jpg")
    write_sheet(output, folder, seeds or default_seeds(split))


@_quality.command("closeness")
@click.option("--bundle", required=True, help="Model to judge: a name or a folder.")
@click.option("--against", default="tiny", show_default=True, help="Model to compare against.")
@click.option("--engine", default="onnxruntime", show_default=True, help="Engine of --bundle.")
@click.option(
    "--against-engine", default="onnxruntime", show_default=True, help="Engine of --against."
)
@click.option("--rounded", is_flag=True, help="Compare the reference with itself, rounded to fp16.")
@click.option("--seed", default=0, show_default=True, help="Seed of the noise.")
@click.argument("names", nargs=-1, metavar="[EXAMPLE]...")
def _closeness(
    bundle: str,
    against: str,
    engine: str,
    against_engine: str,
    rounded: bool,
    seed: int,
    names: tuple[str, ...],
) -> None:
    """How far are clips of two bundles or engines apart? PSNR of the frames, and their keyframes.

    \b
    closeness --bundle half-bundle                       against the packaged float32 model
    closeness --bundle tiny --engine openvino-bf16
    closeness --bundle tiny --rounded                    the reference, each result in float16
    """
    # Slow to import, and none of the other commands' processes need it.
    from bench.quality.closeness import (
        EXAMPLES,
        Clip,
        format_difference,
        reference_clips,
        runtime_clips,
    )

    make_pair: Callable[[str], tuple[Clip, Clip]]
    if rounded:
        make_pair = partial(reference_clips, bundle, seed)
    else:
        pipelines = Pipeline.load(bundle, engine), Pipeline.load(against, against_engine)
        make_pair = partial(runtime_clips, pipelines, seed)
    click.echo(f"{'example':<12} {'PSNR':>8} {'worst frame':>12} {'largest':>8}   keyframes")
    for name in names or sorted(path.stem for path in EXAMPLES.glob("*.png")):
        click.echo(f"{name:<12} {format_difference(*make_pair(name))}")
