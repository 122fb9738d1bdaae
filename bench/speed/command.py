"""Time the networks at full size: as released, autocast, compiled, and on each engine.

On an NVIDIA GPU:

\b
keyvid-export --preset keyvid-512 --random-weights 0 --precision fp16 --no-verify --for cuda \
    --out full && python -m bench.speed --bundle full

"cuda" runs the graphs made for it, "cuda:plain" those for all engines. TensorRT builds its plans
first; `keyvid-export --engine tensorrt` builds them beforehand.

On a CPU, one generator call with one branch (PyTorch and OpenVINO take 17 GB together):

\b
keyvid-export --preset keyvid-512 --random-weights 0 --stage generator --out full
python -m bench.speed --device cpu --case generator --batch 1 --variant released --engine openvino \
    --rounds 2 --bundle full
"""

import json
import platform
import re
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import torch

from bench.speed.calls import measure
from bench.speed.measurement import Measurement, format_measurements
from bench.speed.plot import draw_rows
from bench.speed.variants import CASES, MODES, Bench
from keyvid.bundle.manifest import Bundle
from keyvid.command import run_command
from keyvid.engines.spec import DISTRIBUTIONS, installed_versions
from keyvid.errors import SettingsError
from keyvid.runtime.media.outputs import write_atomic
from keyvid_ref.presets import PRESETS

_ENGINES = {"cuda": ("cuda", "cuda:plain", "tensorrt"), "cpu": ("openvino", "onnxruntime")}
_PACKAGES = ("keyvid", "numpy", "torch", *DISTRIBUTIONS)
_RESULTS = Path(__file__).parents[1] / "results"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_speed, "python -m bench.speed", args)


@click.command(
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--preset", default="keyvid-512", show_default=True, help="Model preset")
@click.option(
    "--bundle", help="Bundle of that preset for the engines; without it they are left out"
)
@click.option("--device", default="cuda", show_default=True, type=click.Choice(list(_ENGINES)))
@click.option("--variant", "modes", multiple=True, type=click.Choice(MODES), help="Default: all")
@click.option("--engine", "engines", multiple=True, help="Default: those for the device")
@click.option("--case", "chosen", multiple=True, type=click.Choice(CASES), help="Default: all")
@click.option("--batch", "batches", multiple=True, default=[1, 4], show_default=True, type=int)
@click.option("--steps", multiple=True, default=[90, 15], show_default=True, type=int)
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1), help="Rounds per call"
)
@click.option(
    "--json",
    "output",
    type=click.Path(path_type=Path),
    help="JSON file to write [default: one in bench/results/ for the preset and the device]",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Also write a plot to this PNG file")
def _speed(
    preset: str,
    bundle: str | None,
    modes: tuple[str, ...],
    engines: tuple[str, ...],
    device: str,
    chosen: tuple[str, ...],
    batches: tuple[int, ...],
    steps: tuple[int, ...],
    rounds: int,
    output: Path | None,
    plot: Path | None,
) -> None:
    """Measure, print the table, write JSON and plot."""
    if preset not in PRESETS:
        raise SettingsError(f"unknown preset {preset!r}; valid: {', '.join(PRESETS)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("torch sees no NVIDIA GPU; take --device cpu --preset tiny for a trial")
    where = torch.device(device)
    engines = engines or _ENGINES[device]
    made = Bundle.load(bundle) if bundle else None
    bench = Bench(PRESETS[preset], where, made, modes or MODES, engines)
    around = environment(where)
    output = output or _RESULTS / f"speed.{preset}.{_as_file_name(around['device'])}.json"
    output.parent.mkdir(exist_ok=True)
    rows: list[Measurement] = []
    for case in bench.cases(chosen or CASES, batches, steps):
        click.echo(case.name, err=True)
        rows += measure(case, where, 1 if case.name.startswith("clip") else rounds)
        # After each case: hours of work are not lost to the last.
        content = {"environment": around, "rows": [row.to_json() for row in rows]}
        write_atomic(output, (json.dumps(content, indent=1) + "\n").encode())
    click.echo(format_measurements(rows))
    if plot:
        draw_rows(rows, f"{preset}, medians").save(plot, "PNG")


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    is_cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device)
        if is_cuda
        else platform.processor() or platform.machine(),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "packages": _versions(),
        "commit": _commit(),
    }


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = installed_versions(_PACKAGES)
    return {name: version for name, version in found.items() if version is not None}


def _commit() -> str | None:
    """What was measured, with "-dirty" where files were changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    with suppress(OSError, subprocess.CalledProcessError):
        folder = Path(__file__).parent
        return subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()
    return None


def _as_file_name(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
