"""`keyvid-cache`: the TensorRT engines that were built on this machine.

The cache is imported when it is looked at: its locks exist on POSIX systems only, and the command
is to say so itself elsewhere.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyvid.command import CONTEXT, common_options, run_command

if TYPE_CHECKING:
    from keyvid.engines.plan_cache import Entry

_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Folder of the cache [default: ~/.cache/keyvid/plans]",
)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-cache` and give its exit code, see `run_command`."""
    return run_command(_cache, "keyvid-cache", args)


@click.group(context_settings=CONTEXT, no_args_is_help=False)
@common_options
def _cache() -> None:
    """Show or remove the TensorRT engines that were built here.

    What is needed again is built again.
    """


@_cache.command("list")
@_FOLDER
def _list(folder: Path | None) -> None:
    """List what is kept, a line each."""
    from keyvid.engines.plan_cache import PlanCache, default_folder

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
    from keyvid.engines.plan_cache import PlanCache, default_folder

    folder = folder or default_folder()
    removed = PlanCache(folder).clear() if folder.exists() else 0
    click.echo(f"{removed} removed from {folder}", err=True)


def _describe(entry: "Entry | None") -> str:
    if entry is None:
        return "damaged: it will be built again when it is needed"
    known = entry.ingredients
    what = known.get("file", known.get("kind", "unknown"))
    on = f"TensorRT {known.get('tensorrt')}, {known.get('gpu')}"
    build = f", built in {entry.record['seconds']:.0f} s" if "seconds" in entry.record else ""
    return f"{entry.created}  {entry.bytes / 1e6:8.1f} MB  {what}  {on}{build}"
