"""`keyvid-score relsync`: the command line around the judge."""

import json
import logging
import sys
from pathlib import Path

import click

from keyvid.command import CONTEXT, common_options
from keyvid.runtime.media.outputs import check_output, write_atomic

_PATH = click.Path(path_type=Path)

log = logging.getLogger(__name__)


@click.command(context_settings=CONTEXT)
@click.argument("folder", type=_PATH)
@click.option("--reference", type=_PATH, help="Folder of the true videos, with the same names")
@click.option("--bundle", required=True, help="Folder of the judge's bundle, see above")
@click.option("--engine", default="auto", show_default=True, help="Engine that runs the judge")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the engine's]")
@click.option(
    "--excerpts",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Most excerpts per video",
)
@click.option(
    "--first-size",
    type=click.IntRange(16, 4096),
    metavar="PIXELS",
    help="First resize frames to a square of this many pixels; the paper uses 256",
)
@click.option(
    "--json",
    "json_file",
    type=_PATH,
    help="Also write the scores of all excerpts to this JSON file",
)
@click.option("--plot", type=_PATH, help="Also plot what the judge notices to this PNG file")
@common_options
def relsync_command(
    folder: Path,
    reference: Path | None,
    bundle: str,
    engine: str,
    threads: int | None,
    excerpts: int,
    first_size: int | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """RelSync: do the videos in FOLDER match their sound as well as the true ones?

    This is the KeyVID paper's measure, with the judge network that it uses. Videos are judged in
    excerpts of two seconds, twelve frames at 6 fps, with the sound of the true video where there
    is one. The table also shows whether the judge notices sounds shifted by 42 to 333 ms: its
    frames are 167 ms apart, and it cannot see what happens between them.

    The judge is a bundle of its own:

    \b
        keyvid-export --preset avsync --from-hub --out avsync

    AlignSync is not computed: it needs ImageBind's picture encoder, which KeyVID does not use.
    """
    for path, suffix in ((json_file, ".json"), (plot, ".png")):
        if path:
            check_output(path, suffix)

    from keyvid.bundle.manifest import Bundle
    from keyvid.score.relsync.excerpts import find_films, read_excerpts
    from keyvid.score.relsync.judge import Judge, judge_facts
    from keyvid.score.relsync.plot import sensitivity_page
    from keyvid.score.relsync.report import format_relsync
    from keyvid.score.relsync.verdicts import (
        Verdict,
        judge_excerpts,
        score_films,
        to_json,
    )

    loaded = Bundle.load(bundle)
    judge = Judge(loaded, engine, threads)
    if loaded.weights == "random":
        log.warning("%s: its weights are random, so its scores mean nothing", bundle)
    verdicts: list[Verdict] = []
    with click.progressbar(find_films(folder, reference), label="films", file=sys.stderr) as films:
        for film, true_film in films:  # one in memory at a time
            parts = read_excerpts(film, true_film, judge.span, excerpts, first_size)
            verdicts += judge_excerpts(judge, film.stem, parts)
    judge.close()
    if json_file:
        protocol = {
            **judge_facts(judge, loaded),
            "excerpts": excerpts,
            "first_size": first_size,
            "reference": reference is not None,
        }
        write_atomic(json_file, json.dumps(to_json(verdicts, protocol), indent=1).encode() + b"\n")
    if plot:
        write_atomic(plot, sensitivity_page(verdicts, with_true=reference is not None))
    click.echo(format_relsync(score_films(verdicts)), nl=False)
