"""`keyvid-export`: the stages of a preset as a bundle of ONNX graphs.

Torch is imported when something is exported, so that `--help` comes at once.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyvid.engines.command import run_command
from keyvid.engines.errors import SettingsError

if TYPE_CHECKING:
    from keyvid.export.build import StageReport


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-export` and give its exit code, see `run_command`."""
    return run_command(_export, "keyvid-export", args)


_RELEASED = {
    "generator": "Released checkpoint of the keyframe generator and the encoders",
    "interpolator": "Released checkpoint of the motion interpolator",
    "imagebind": "ImageBind's checkpoint [default: the generator's copy]",
    "localizer": "Released checkpoint of the localizer",
    "tokenizer": "tokenizer.json of CLIP",
}


def _released_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, text in reversed(_RELEASED.items()):
        command = click.option(f"--{name}", type=click.Path(path_type=Path), help=text)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--stage", "stages", multiple=True, help="Stage to export, repeatable [default: all]")
@click.option("--preset", default="tiny", show_default=True, help="Size of the model")
@click.option("--weights", help="Folder with safetensors, or a bundle [default: the packaged one]")
@_released_options
@click.option("--from-hub", is_flag=True, help="Download released files that are not given")
@click.option("--random-weights", type=int, metavar="SEED", help="Random weights instead")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="What the graphs compute in; inputs and outputs are float32",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the bundle to write [default: ./PRESET-bundle]",
)
@click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare with the reference"
)
@click.version_option(package_name="keyvid", message="%(prog)s %(version)s")
def _export(
    stages: tuple[str, ...],
    preset: str,
    weights: str | None,
    from_hub: bool,
    random_weights: int | None,
    precision: str,
    out: Path | None,
    verify: bool,
    **released: Path | None,
) -> None:
    """Export stages to ONNX and verify each graph against the reference.

    A bundle that is already at --out keeps the stages that are not exported; after a failure it is
    as it was.
    """
    try:
        from keyvid.export.build import build_bundle
        from keyvid.export.inputs import open_source
        from keyvid.export.stages import STAGES
        from keyvid_ref.presets import PRESETS
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error.name} is not installed; run pip install 'keyvid[export]'"
        ) from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision
    _check_names("stage", stages, STAGES)
    _check_names("preset", [preset], PRESETS)
    chosen = [name for name in STAGES if name in stages or not stages]
    out = out or Path(f"{preset}-bundle")
    given = {name: path for name, path in released.items() if path}
    source = open_source(PRESETS[preset], chosen, weights, random_weights, given, from_hub)
    reports = build_bundle(
        source,
        out,
        chosen,
        precision=precision,
        verify=verify,
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(format_table(reports))
    click.echo(out)


def _check_names(kind: str, names: Iterable[str], valid: Collection[str]) -> None:
    for name in names:
        if name not in valid:
            raise SettingsError(f"unknown {kind} {name!r}; valid: {', '.join(valid)}")


def format_table(reports: "Sequence[StageReport]") -> str:
    """A line per stage: size of graphs and weights, time, error against the reference."""
    lines = [f"{'stage':<14} {'size':>10} {'time':>8}   error"]
    for report in reports:
        error = "not verified" if report.error is None else f"{report.error:.1e}"
        size, seconds = f"{report.bytes / 1e6:.1f} MB", f"{report.seconds:.1f} s"
        lines.append(f"{report.name:<14} {size:>10} {seconds:>8}   {error}")
    return "\n".join(lines)
