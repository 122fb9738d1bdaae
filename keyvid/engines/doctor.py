"""`keyvid-doctor`: what this machine can run, and why not the rest."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from keyvid.bundle.manifest import PACKAGED, Bundle
from keyvid.command import CONTEXT, common_options, run_command
from keyvid.engines import processor
from keyvid.engines.engine import EngineChoice, choose_engine, probe_engine
from keyvid.engines.gpu import find_gpu
from keyvid.engines.spec import DISTRIBUTIONS, ENGINES, installed_versions
from keyvid.engines.verification import format_reports, verify_engine, write_record
from keyvid.errors import BundleError, EngineError
from keyvid.folders import cache_folder
from keyvid.sizes import format_size

_PACKAGES = (
    "keyvid",
    "numpy",
    *DISTRIBUTIONS,
    "av",
    "soundfile",
    "tokenizers",
)
_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-doctor` and give its exit code, see `run_command`."""
    return run_command(_doctor, "keyvid-doctor", args)


@click.command(context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table")
@click.option("--verify", is_flag=True, help="Run, compare and time each graph of a bundle")
@click.option(
    "--bundle", default="tiny", show_default=True, help="To verify: a packaged name or a folder"
)
@click.option(
    "--engine", default="auto", show_default=True, help="To verify with: auto or a listed name"
)
@common_options
def _doctor(as_json: bool, verify: bool, bundle: str, engine: str) -> None:
    """List engines, versions, devices and packaged bundles; exit 2 if no engine can be used.

    With --verify, run the graphs of a bundle on an engine instead, compare the results with the
    reference outputs stored at export, and save error, time and memory in
    ~/.cache/keyvid/engines; exit 2 if the error is too large.
    """
    if verify:
        loaded = Bundle.load(bundle)
        _verify(loaded, choose_engine(engine, loaded), as_json)
        return
    findings = examine()
    click.echo(json.dumps(findings, indent=2) if as_json else format_table(findings))
    if not any(engine["available"] for engine in findings["engines"]):
        raise click.exceptions.Exit(2)


def _verify(bundle: Bundle, choice: EngineChoice, as_json: bool) -> None:
    """Verify `bundle` on an engine, print what was seen and write it down.

    Raises:
        EngineError: a graph is too far from the reference.
    """
    click.echo(f"{bundle.name} on {choice.name} ({choice.reason})", err=True)
    reports = list(verify_engine(bundle, choice.name, lambda line: click.echo(line, err=True)))
    path = write_record(cache_folder("engines"), bundle, choice, reports)
    click.echo(path.read_text() if as_json else format_reports(reports))
    click.echo(f"written to {path}", err=True)
    if failed := [report.graph for report in reports if not report.passed]:
        raise EngineError(
            f"{', '.join(failed)}: error against the reference exceeds {choice.name}'s limit; "
            "take another engine or a float32 bundle"
        )


def examine() -> dict[str, Any]:
    """Versions, device, engines, choice of "auto" and packaged bundles, as JSON values."""
    try:
        auto: dict[str, Any] = asdict(choose_engine())
    except EngineError as error:
        auto = {"name": None, "reason": str(error)}
    return {
        "versions": {"python": platform.python_version(), **installed_versions(_PACKAGES)},
        "device": _device(),
        "engines": [asdict(probe_engine(name)) for name in ENGINES],
        "cards": {name: spec.cards for name, spec in ENGINES.items() if spec.cards},
        "auto": auto,
        "bundles": [_bundle(name) for name in PACKAGED],
    }


def format_table(findings: dict[str, Any]) -> str:
    """What `examine` found, as sections with a line each."""
    device, auto = findings["device"], findings["auto"]
    sections = {
        "versions": [(name, v or "not installed") for name, v in findings["versions"].items()],
        "device": [
            ("processor", f"{device['processor']}, {device['cores']} cores to use"),
            ("memory", f"{device['memory_bytes'] / 2**30:.1f} GiB"),
            ("features", ", ".join(device["features"]) or "none known"),
            ("gpu", device["gpu"]),
        ],
        "engines": [
            *((engine["name"], _state(engine)) for engine in findings["engines"]),
            ("auto", f"{auto['name'] or 'none'} ({auto['reason']})"),
        ],
        "cards that engines are for": list(findings["cards"].items()),
        "bundles": [(bundle["name"], _state(bundle)) for bundle in findings["bundles"]],
    }
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {name:18} {detail}" for name, detail in rows)]
    return "\n".join(lines)


def _state(item: dict[str, Any]) -> str:
    return ("" if item["available"] else "not available: ") + str(item["detail"])


def _device() -> dict[str, Any]:
    """The processor: name, cores that this process may use, features that matter; memory."""
    return {
        "processor": processor.name(),
        "cores": processor.num_cores(),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "features": [flag for flag in _CPU_FLAGS if flag in processor.features()],
        "gpu": _gpu(),
    }


def _gpu() -> str:
    """The GPU that engines use, or why none is found."""
    try:
        gpu = find_gpu()
    except EngineError as error:
        return f"unknown: {error}"
    return (
        f"{gpu.name}, compute capability {gpu.compute_capability}, "
        f"{gpu.memory_bytes / 2**30:.1f} GiB, driver {gpu.driver}"
    )


def _bundle(name: str) -> dict[str, Any]:
    """State of a packaged bundle, all its files verified."""
    try:
        bundle = Bundle.load(name)
    except BundleError as error:
        return {"name": name, "available": False, "detail": str(error)}
    size = sum(file.bytes for file in bundle.files.values())
    detail = (
        f"{bundle.weights} weights, {len(bundle.stages)} stages, "
        f"{len(bundle.files)} files verified, {format_size(size)}, {bundle.path}"
    )
    return {"name": name, "available": True, "detail": detail}
