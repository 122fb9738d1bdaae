"""`keyvid-cache`: compiled graphs listed and removed; TensorRT plans also built ahead, and trusted.

The cache is imported when it is looked at: its locks exist on POSIX systems only, and the command
is to say so itself elsewhere.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyvid.command import CONTEXT, common_options, run_command, say
from keyvid.engines.tensorrt.plan_options import plan_options

if TYPE_CHECKING:
    from keyvid.engines.cache import Entry

_OPENVINO = "OpenVINO"

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the cache [default: all in the user's cache, such as ~/.cache/keyvid/plans]",
)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-cache` and give its exit code, see `run_command`."""
    return run_command(_cache, "keyvid-cache", args)


@click.group(context_settings=CONTEXT, no_args_is_help=False)
@common_options
def _cache() -> None:
    """Build and trust TensorRT plans; list and remove what engines have compiled.

    A plan is a graph compiled for a GPU. A missing plan is built when its graph is first opened.
    For small models, the graphs that CPU engines compile are cached as well.
    """


@_cache.command("build")
@click.argument("bundle", default="tiny")
@click.option(
    "--engine",
    default="tensorrt-rtx",
    show_default=True,
    help="tensorrt-rtx builds on any machine, tensorrt and tensorrt-streaming for the GPU here",
)
@click.option("--stage", "stages", multiple=True, help="Stage, repeatable [default: all]")
@plan_options
def _build(
    bundle: str,
    engine: str,
    stages: tuple[str, ...],
    target: str | None,
    max_memory: int | None,
    with_plans: bool,
) -> None:
    """Build the plans of BUNDLE that are missing, each in its own process."""
    from keyvid.bundle.manifest import Bundle
    from keyvid.engines.tensorrt.bundled_plans import check_place
    from keyvid.engines.tensorrt.plans import PlanOptions, build_plans, format_plans

    options = PlanOptions.parse(engine, target, max_memory, with_plans)
    if with_plans:
        check_place(bundle)
    loaded = Bundle.load(bundle)
    chosen = stages or tuple(loaded.stages)
    click.echo(format_plans(list(build_plans(loaded, options, chosen, say))))


@_cache.command("trust")
@click.argument("bundle")
def _trust(bundle: str) -> None:
    """Trust the plans in BUNDLE, which you or someone you know built elsewhere.

    A plan is native code: it can do whatever you can do.
    """
    from keyvid.bundle.manifest import Bundle
    from keyvid.engines.cache import Cache, plan_folder
    from keyvid.engines.tensorrt.bundled_plans import trust_plans

    loaded = Bundle.load(bundle)
    trust_plans(loaded, Cache(plan_folder()))
    for name, plan in (loaded.plans or {}).items():
        click.echo(f"{name}  {plan.get('kind')} {plan.get('version')} for {plan.get('targets')}")


@_cache.command("list")
@_FOLDER
def _list(folder: Path | None) -> None:
    """List the cached graphs and plans."""
    from keyvid.engines.cache import Cache

    for place in _places(folder):
        rows = list(Cache(place).entries()) if place.exists() else []
        for key, entry in rows:
            click.echo(f"{key[:12]}  {_describe(entry)}")
        total = sum(entry.bytes for _, entry in rows if entry)
        click.echo(f"{len(rows)} in {place}, {total / 1e6:.1f} MB", err=True)


@_cache.command("clear")
@_FOLDER
def _clear(folder: Path | None) -> None:
    """Remove all cached graphs and plans."""
    from keyvid.engines.cache import Cache

    for place in _places(folder):
        removed = Cache(place).clear() if place.exists() else 0
        click.echo(f"{removed} removed from {place}", err=True)


def _places(folder: Path | None) -> list[Path]:
    """The folder that is asked for, or all of the user's."""
    from keyvid.engines.cache import graph_folder, plan_folder

    return [folder] if folder else [plan_folder(), graph_folder()]


def _describe(entry: "Entry | None") -> str:
    if entry is None:
        return "damaged: it will be built again when it is needed"
    known = entry.ingredients
    what = known.get("file", "")
    made = f"{known['kind']} {known['version']}" if "version" in known else known.get("kind", "")
    place = known.get("targets") or known.get("gpu", "")
    build = f", built in {entry.record['seconds']:.0f} s" if "seconds" in entry.record else ""
    facts = ", ".join(filter(None, [made, place, _why_stale(known)]))
    return f"{entry.created}  {entry.bytes / 1e6:8.1f} MB  {what}  {facts}{build}"


def _why_stale(known: Mapping[str, str]) -> str:
    """Why nobody takes a graph of an engine for the CPU any more, "" where somebody may.

    Args:
        known: its ingredients, see `keyvid.engines.kept_graph`.
    """
    from keyvid.engines import processor

    if not known.get("kind", "").startswith(_OPENVINO):
        return ""
    try:
        installed = version(_OPENVINO)
    except PackageNotFoundError:
        return "stale: OpenVINO is not installed"
    if known.get("version", "").partition("-")[0] != installed:
        return f"stale: OpenVINO {installed} is installed"
    is_here = known.get("processor") == processor.fingerprint()
    return "" if is_here else "stale: made for another processor"
