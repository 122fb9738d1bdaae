"""`keyvid-cache`: the TensorRT engines that were built on this machine."""

from collections.abc import Sequence
from pathlib import Path

import click

from keyvid.command import run_command
from keyvid.engines.plan_cache import Entry, PlanCache, default_folder

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the cache [default: ~/.cache/keyvid/plans]",
)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-cache` and give its exit code, see `run_command`."""
    return run_command(_cache, "keyvid-cache", args)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="keyvid", message="%(prog)s %(version)s")
def _cache() -> None:
    """Show or remove the TensorRT engines that were built here.

    What is needed again is built again.
    """


@_cache.command("list")
@_FOLDER
def _list(folder: Path | None) -> None:
    """List what is kept, a line each."""
    folder = folder or default_folder()
    rows = list(PlanCache(folder).entries()) if folder.exists() else []
    for key, entry in rows:
        click.echo(f"{key[:12]}  {_describe(entry)}")
    total = sum(entry.bytes for _, entry in rows if entry)
    click.echo(f"{len(rows)} in {folder}, {total / 1e6:.1f} MB", err=True)


@_cache.command("clear")
@_FOLDER
def _clear(folder: Path | None) -> None:
    """Remove all that is kept."""
    folder = folder or default_folder()
    removed = PlanCache(folder).clear() if folder.exists() else 0
    click.echo(f"{removed} removed from {folder}", err=True)


def _describe(entry: Entry | None) -> str:
    if entry is None:
        return "damaged: it will be built again when it is needed"
    known = entry.ingredients
    what = known.get("file", known.get("kind", "unknown"))
    on = f"TensorRT {known.get('tensorrt')}, {known.get('gpu')}"
    build = f", built in {entry.record['seconds']:.0f} s" if "seconds" in entry.record else ""
    return f"{entry.created}  {entry.bytes / 1e6:8.1f} MB  {what}  {on}{build}"
