"""`keyvid-score relsync`: the command line around the judge."""

import io
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
@click.option("--reference", type=_PATH, help="Folder of the true films, of the same names")
@click.option("--bundle", required=True, help="Folder of the judge, see below")
@click.option("--engine", default="auto", show_default=True, help="What runs the judge")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the engine's]")
@click.option(
    "--excerpts",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Excerpts of a film, at most",
)
@click.option(
    "--first-size",
    type=click.IntRange(16, 4096),
    metavar="PIXELS",
    help="Squeeze frames to a square of that many first; the paper's are 256",
)
@click.option("--json", "json_file", type=_PATH, help="Scores of all excerpts, to write as well")
@click.option("--plot", type=_PATH, help="PNG to write as well: what the judge notices")
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
    """RelSync: do the films of FOLDER fit their sound as well as the true ones?

    The KeyVID paper's measure, by the judge published with it. Films are taken two seconds at a
    time, twelve frames at 6 fps; the sound is that of the true film where there is one. How far
    the judge notices sounds that are off by 42 to 333 ms stands beside it: what happens between
    two of its frames, 167 ms apart, it does not see.

    The judge is a bundle of its own:

    \b
        keyvid-export --preset avsync --from-hub --out avsync

    AlignSync is not computed: it needs ImageBind's picture encoder, which KeyVID does not use.
    """
    for path, suffix in ((json_file, ".json"), (plot, ".png")):
        if path:
            check_output(path, suffix)

    from keyvid.bundle.manifest import Bundle
    from keyvid.score.relsync import (
        Verdict,
        judge_excerpts,
        score_films,
        signed_sensitivity,
        to_json,
    )
    from keyvid.score.relsync_excerpts import find_films, read_excerpts
    from keyvid.score.relsync_judge import Judge
    from keyvid.score.relsync_plot import draw_sensitivity
    from keyvid.score.relsync_report import format_relsync

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
            "bundle": loaded.name,
            "weights": loaded.weights,
            "files": {n: f.sha256 for n, f in loaded.files.items() if n.endswith(".safetensors")},
            "engine": judge.engine,
            "frames": judge.span.num_frames,
            "fps": judge.span.fps,
            "excerpts": excerpts,
            "first_size": first_size,
            "reference": reference is not None,
        }
        write_atomic(json_file, json.dumps(to_json(verdicts, protocol), indent=1).encode() + b"\n")
    if plot:
        curves = {"films": signed_sensitivity(verdicts, true=False)}
        if reference:
            curves["true films"] = signed_sensitivity(verdicts, true=True)
        page = io.BytesIO()
        title = "RelSync of a film with its sound later, against itself"
        draw_sensitivity(curves, title).save(page, "PNG")
        write_atomic(plot, page.getvalue())
    click.echo(format_relsync(score_films(verdicts)), nl=False)
