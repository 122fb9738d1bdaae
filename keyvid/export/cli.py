"""`keyvid-export`: the stages of a preset as a bundle of ONNX graphs.

Torch is imported when something is exported, so that `--help` comes at once.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Form, Precision
from keyvid.command import CONTEXT, common_options, run_command
from keyvid.engines.tensorrt.plan_options import plan_options
from keyvid.errors import SettingsError
from keyvid.sizes import format_size

if TYPE_CHECKING:
    from keyvid.engines.tensorrt.plans import PlanOptions
    from keyvid.export.build import StageReport
    from keyvid_ref.presets import Preset

_HALF_LEGEND = (
    "rounding: error if each result is rounded to float16; largest value, and in which module, and "
    "largest sum of\nsquares behind a variance: in float32 on real inputs, float16 ends at 65504; "
    "islands: normalisations +\nother modules in float32"
)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-export` and give its exit code, see `run_command`."""
    return run_command(_export, "keyvid-export", args)


_RELEASED = {
    "generator": "Released checkpoint of the keyframe generator and the encoders",
    "interpolator": "Released checkpoint of the motion interpolator, or its file name on the Hub",
    "imagebind": "ImageBind's checkpoint [default: the generator's copy]",
    "localizer": "Released checkpoint of the localizer",
    "tokenizer": "CLIP's tokenizer.json",
    "avsync": "Released folder of the RelSync judge, with audio_encoder, video_encoder and head",
}


def _released_options(command: Callable[..., None]) -> Callable[..., None]:
    for name, text in reversed(_RELEASED.items()):
        command = click.option(f"--{name}", type=click.Path(path_type=Path), help=text)(command)
    return command


@click.command(context_settings=CONTEXT)
@click.option("--stage", "stages", multiple=True, help="Stage to export, repeatable [default: all]")
@click.option("--preset", default="tiny", show_default=True, help="Model preset")
@click.option(
    "--weights", help="Folder of safetensors files, or a bundle [default: the packaged one]"
)
@_released_options
@click.option("--from-hub", is_flag=True, help="Download the released files that are not given")
@click.option(
    "--revision",
    help="Commit, branch or tag of KeyVID's repository on the Hub [default: a pinned commit]",
)
@click.option(
    "--drop-downloads", is_flag=True, help="Remove each download once its stages are exported"
)
@click.option("--random-weights", type=int, metavar="SEED", help="Use random weights instead")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Precision of the graphs; inputs and outputs stay float32",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the bundle to write [default: ./PRESET-bundle]",
)
@click.option(
    "--verify/--no-verify",
    default=True,
    show_default=True,
    help="Compare each graph with the reference",
)
@click.option(
    "--for",
    "families",
    multiple=True,
    type=click.Choice(["cuda"]),
    help="Also write graphs made for this kind of engine",
)
@click.option(
    "--engine",
    help="Also build the plans of this engine: tensorrt-rtx, tensorrt or tensorrt-streaming",
)
@plan_options
@common_options
def _export(
    stages: tuple[str, ...],
    preset: str,
    weights: str | None,
    from_hub: bool,
    revision: str | None,
    drop_downloads: bool,
    random_weights: int | None,
    precision: Precision,
    out: Path | None,
    verify: bool,
    families: tuple[Form, ...],
    engine: str | None,
    target: str | None,
    max_memory: int | None,
    with_plans: bool,
    **released: Path | None,
) -> None:
    """Export stages to ONNX and verify each graph against the reference.

    An existing bundle at --out keeps the stages that are not exported, and stays unchanged if the
    export fails. To build the plans of an existing bundle, use keyvid-cache build.
    """
    from keyvid.engines.tensorrt.plans import build_plans, format_plans

    plans = _plan_options(engine, target, max_memory, with_plans)  # before an export in vain
    if not from_hub and (revision or drop_downloads):
        raise SettingsError("--revision and --drop-downloads go with --from-hub")
    _require_packages()
    from keyvid.export.build import build_bundle
    from keyvid.export.inputs import open_inputs
    from keyvid.export.released import REVISION
    from keyvid_ref.presets import AVSYNC, PRESETS

    presets = {**PRESETS, AVSYNC.name: AVSYNC}
    _check_names("preset", [preset], presets)
    inputs = open_inputs(
        presets[preset],
        _chosen_stages(presets[preset], stages),
        weights,
        random_weights,
        _given(released),
        (revision or REVISION) if from_hub else None,
    )
    out = out or Path(f"{preset}-bundle")
    say = partial(click.echo, err=True)
    how: Any = {"precision": precision, "verify": verify, "drop_downloads": drop_downloads}
    reports = build_bundle(
        inputs.source,
        out,
        inputs.stages,
        families=tuple(dict.fromkeys(families)),
        prepare=partial(inputs.announce, out=out, say=say, **how),
        progress=say,
        **how,
    )
    click.echo(format_table(reports))
    if plans:
        click.echo(format_plans(list(build_plans(Bundle.load(out), plans, inputs.stages, say))))
    click.echo(out)


def _plan_options(
    engine: str | None, target: str | None, max_memory: int | None, with_plans: bool
) -> "PlanOptions | None":
    """Which plans to build, None for none.

    Raises:
        SettingsError: they cannot be built here, or it is not said for which engine.
    """
    from keyvid.engines.tensorrt.plans import PlanOptions

    if engine:
        return PlanOptions.parse(engine, target, max_memory, with_plans)
    if target or max_memory or with_plans:
        raise SettingsError("--target, --max-memory and --with-plans go with --engine tensorrt-rtx")
    return None


def _require_packages() -> None:
    """Import torch and all that the export takes, and let the lines that help nobody be."""
    try:
        for module in ("keyvid.export.build", "keyvid.export.inputs"):
            import_module(module)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error.name} is not installed; run pip install 'keyvid[export]'"
        ) from error
    for name in ("torch.onnx", "onnxscript"):  # of torchvision, of splits that stay
        logging.getLogger(name).setLevel(logging.ERROR)


def _chosen_stages(preset: "Preset", names: Sequence[str]) -> list[str]:
    """Those of a preset that are named, in its order."""
    from keyvid.export.stages import stages_of

    valid = stages_of(preset)
    _check_names("stage", names, valid)
    return [name for name in valid if name in names]


def _given(released: Mapping[str, Path | None]) -> dict[str, Path]:
    """The released files that are named, with those of a folder of the judge."""
    from keyvid_ref.checkpoint import find_avsync

    given = {name: path for name, path in released.items() if path}
    if folder := given.pop("avsync", None):
        given |= find_avsync(folder)
    return given


def _check_names(kind: str, names: Iterable[str], valid: Collection[str]) -> None:
    for name in names:
        if name not in valid:
            raise SettingsError(f"unknown {kind} {name!r}; valid: {', '.join(valid)}")


def format_table(reports: "Sequence[StageReport]") -> str:
    """A line per stage: size of graphs and weights, time, error against the reference.

    For half precision also the error of rounding, ranges, and what is in float32.
    """
    is_half = any(report.spec.half for report in reports)
    lines = [f"{'stage':<14} {'size':>10} {'time':>8} {'error':>13}"]
    if is_half:
        lines[0] += f" {'rounding':>9} {'largest':>8} {'squares':>8} {'islands':>8}  in"
    for report in reports:
        error = "not verified" if report.spec.error is None else f"{report.spec.error:.1e}"
        size, seconds = format_size(report.bytes), f"{report.seconds:.1f} s"
        line = f"{report.name:<14} {size:>10} {seconds:>8} {error:>13}"
        if half := report.spec.half:
            rounding = "-" if half.rounding is None else f"{half.rounding:.1e}"
            islands = f"{half.norms}+{len(half.islands)}"
            line += f" {rounding:>9} {half.largest:>8.1f} {half.norm_squares:>8.0f} {islands:>8}"
            line += f"  {half.module}"
        lines.append(line)
    return "\n".join([*lines, *([_HALF_LEGEND] if is_half else [])])
