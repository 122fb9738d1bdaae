"""What many clips take: workers, waiting, and what a thousand clips cost, by simulation.

The scheduling is the server's own; the seconds are measured or computed.

Measured, from two reports of a server's clips of two seconds, its first and a later one:

\b
python -m bench.scale --cold first.json --warm later.json --load 1000000

Computed, from the FLOP of the published model and a rate that is reached:

\b
python -m bench.scale --quality fast --rate 100e12 --load 1000000 --price 2.5
"""

from collections.abc import Sequence
from pathlib import Path

import click

from bench.quality.cost import preset_flops, unet_flops
from bench.scale.costs import Costs, computed_costs, measured_costs
from bench.scale.plot import draw_answer
from bench.scale.questions import QUESTIONS, Setting
from keyvid.command import run_command
from keyvid.errors import SettingsError
from keyvid.sampling import parse_settings, resolve
from keyvid_ref.presets import PRESETS


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_scale, "python -m bench.scale", args)


@click.command(
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--cold", type=click.Path(path_type=Path), help="Report of a process's first clip")
@click.option("--warm", type=click.Path(path_type=Path), help="Report of a later clip")
@click.option("--boot", default=1.5, show_default=True, help="Seconds until a process is up")
@click.option("--preset", default="keyvid-512", show_default=True, help="Model to compute for")
@click.option("--quality", default="fast", show_default=True, help="Sampling to compute for")
@click.option("--rate", type=float, help="FLOP/s that are reached: compute, do not measure")
@click.option("--weights", default=3e9, show_default=True, help="Bytes of a U-Net")
@click.option("--disk", default=1e9, show_default=True, help="Bytes/s at which they are read")
@click.option("--load", default=100_000.0, show_default=True, help="Clips a day")
@click.option("--hours", default=2.0, show_default=True, help="Of a steady load to simulate")
@click.option("--price", type=float, help="Of a worker's hour, in any currency")
@click.option("--seed", default=0, show_default=True, help="Same seed, same numbers")
@click.option("--ask", "asked", multiple=True, type=click.Choice(list(QUESTIONS)), help="All")
@click.option("--plots", type=click.Path(path_type=Path), help="Folder for a PNG of each answer")
def _scale(
    cold: Path | None,
    warm: Path | None,
    boot: float,
    preset: str,
    quality: str,
    rate: float | None,
    weights: float,
    disk: float,
    load: float,
    hours: float,
    price: float | None,
    seed: int,
    asked: tuple[str, ...],
    plots: Path | None,
) -> None:
    if rate and not (cold or warm):
        costs = _computed(preset, quality, rate, weights, disk)
    elif cold and warm and not rate:
        costs = measured_costs(cold, warm, boot)
    else:
        raise SettingsError("want --cold and --warm with reports, or --rate")
    setting = Setting(costs, load, hours, seed, price)
    click.echo(
        f"{costs.name}, {costs.source}: {costs.clip(1):.2f} s for a clip of two seconds, "
        f"{costs.cold_start:.1f} s to start\n"
    )
    for name in asked or QUESTIONS:
        answer = QUESTIONS[name](setting)
        click.echo(f"{answer.title}\n\n{answer.table}\n")
        if plots:
            plots.mkdir(parents=True, exist_ok=True)
            draw_answer(answer, plots / f"{name}.png")


def _computed(preset: str, quality: str, rate: float, weights: float, disk: float) -> Costs:
    if preset not in PRESETS:
        raise SettingsError(f"unknown preset {preset!r}; valid: {', '.join(PRESETS)}")
    known = PRESETS[preset]
    sampling = resolve(parse_settings([f"quality={quality}"]), known.sampling, known.qualities)
    flop = unet_flops(sampling, preset_flops(known))
    steps = (sampling.generator.steps, sampling.interpolator.steps)
    parts = (flop["generator"], flop["interpolator"])
    return computed_costs(f"{preset}, {quality}", parts, steps, rate, weights, disk)
