"""`keyvid-score`: the command line around `keyvid.score`.

Scoring needs scipy, which is imported when it is used, so that `--help` comes at once.
"""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import click

from keyvid.command import CONTEXT, common_options, run_command
from keyvid.counting import counted
from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media.outputs import check_output, write_atomic
from keyvid.score.relsync.cli import relsync_command

_PATH = click.Path(path_type=Path)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-score` and give its exit code, see `run_command`."""
    words = list(sys.argv[1:] if args is None else args)
    if words[:1] == ["compare"]:
        return run_command(_compare, "keyvid-score compare", words[1:])
    if words[:1] == ["relsync"]:
        return run_command(relsync_command, "keyvid-score relsync", words[1:])
    return run_command(_score, "keyvid-score", words)


@click.command(context_settings=CONTEXT)
@click.argument("folder", type=_PATH)
@click.option(
    "--json",
    "json_file",
    type=_PATH,
    help="Also write scores and detected strikes to this JSON file",
)
@click.option("--plot", type=_PATH, help="Also plot motion, events and strikes to this PNG file")
@click.option(
    "--av-align",
    "with_av_align",
    is_flag=True,
    help="Also compute AV-Align, which needs no NAME.json: onsets of the videos' own sound "
    "against peaks of the frame difference.",
)
@common_options
def _score(folder: Path, json_file: Path | None, plot: Path | None, with_av_align: bool) -> None:
    """Do things happen in the videos of FOLDER when they are heard?

    Beside each video, NAME.json lists its events: the seconds at which something is heard to
    happen. It may also name a kind, to group the table by, and what an event looks like:

    \b
        {"events_s": [0.4, 0.93], "kind": "hammer", "event": "contact"}

    "contact" (the default): something reaches its furthest point and comes back; "change":
    something changes its state. Clips without events show false strikes.

    Strikes are detected in two ways: as peaks of the frame difference, and from the pose that
    remains when the frames are strongly blurred. They are matched with events within one, two
    and three frames at 24 fps. F1 is 1 if every event is seen and nothing else; the 95 % interval
    in brackets is bootstrapped over clips. Corrected: F1 on a scale where random timing scores 0.
    Median error: strike minus event.

    --av-align is for clips without known events, and for comparison with papers. It cannot tell
    flicker from motion: perfect timing can score below 0.5.

    A video that cannot be scored is reported and skipped; the exit code is then 2.

    keyvid-score compare A B compares two versions of the same clips; keyvid-score relsync FOLDER
    computes the KeyVID paper's own measure, RelSync.
    """
    _require_scipy()
    for path, suffix in ((json_file, ".json"), (plot, ".png")):
        if path:
            check_output(path, suffix)

    from keyvid.score.folder import score_folder
    from keyvid.score.plot import MAX_PANELS, motion_page

    num_panels = MAX_PANELS if plot else 0
    found = score_folder(folder, with_av_align=with_av_align, num_panels=num_panels)
    if json_file:
        write_atomic(json_file, json.dumps(found.to_json(), indent=1).encode() + b"\n")
    if plot and found.panels:
        write_atomic(plot, motion_page(found.panels, f"{folder.resolve().name}: motion"))
    click.echo(str(found), nl=False)
    if found.num_skipped:
        videos = counted(found.num_videos, "video")
        raise MediaError(
            f"{found.num_skipped} of {videos} skipped, see above; repair or remove them"
        )


@click.command(context_settings=CONTEXT)
@click.argument("first", metavar="A", type=_PATH)
@click.argument("second", metavar="B", type=_PATH)
@common_options
def _compare(first: Path, second: Path) -> None:
    """How much better is B than A?

    A and B are two folders of the same clips, or two files that keyvid-score --json wrote. The
    interval of a difference is a paired bootstrap over clips.
    """
    _require_scipy()
    from keyvid.score.report import format_comparison
    from keyvid.score.results import read_clips

    click.echo(format_comparison(read_clips(first), read_clips(second)), nl=False)


def _require_scipy() -> None:
    try:
        import_module("scipy.signal")
    except ImportError as error:
        raise SettingsError(
            f"scoring needs scipy, which cannot be imported ({error}); pip install 'keyvid[score]'"
        ) from error
