"""`keyvid-infer`: the command line around `keyvid.runtime.pipeline`.

The pipeline and its libraries are imported when a clip is made, so that `--help` comes at once.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keyvid.command import CONTEXT, common_options, run_command, say
from keyvid.sampling import options as sampling_options
from keyvid.sampling import settings_from
from keyvid.sizes import parse_size

if TYPE_CHECKING:
    from keyvid.runtime.clip import Clip
    from keyvid.runtime.journal import Journal
    from keyvid.runtime.pipeline import Pipeline

_DEFAULT_BUNDLE = "tiny"
_MOST_THREADS = 1024
_ASKED = ("start", "length", "fit", "position", "keyframes")  # and kept in the report

log = logging.getLogger(__name__)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-infer` and give its exit code, see `keyvid.command`."""
    return run_command(_infer, "keyvid-infer", args)


def _size(text: str) -> int:
    """Bytes of a size as people write it."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


class _SamplingOption(click.Option):
    """An option whose help shows what the packaged bundle says, read when it is shown."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        name = str(self.name)
        names, text = super().get_help_record(ctx) or ("", "")
        default = _packaged_sampling().get(name, "the bundle's")
        return names, f"{text}  [default: {default}]"


@cache
def _packaged_sampling() -> dict[str, Any]:
    """Sampling of the default bundle by the options' names; nothing where it cannot be read."""
    from keyvid.bundle.manifest import MANIFEST, find_bundle

    try:
        content = json.loads((find_bundle(_DEFAULT_BUNDLE) / MANIFEST).read_bytes())
        sampling = content["sampling"]
        alone = {f"interpolator_{name}": v for name, v in sampling["interpolator"].items()}
        return {**sampling["generator"], **alone, "temporal": sampling["temporal"]}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _sampling_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each setting of `keyvid.sampling`."""
    for option in reversed(list(sampling_options())):
        name = f"--{option.name.replace('_', '-')}"
        metavar = "|".join(option.choices) or None
        command = click.option(
            name, cls=_SamplingOption, type=option.kind, metavar=metavar, help=option.help
        )(command)
    return command


@click.command(
    context_settings=CONTEXT,
    epilog="Defaults of the sampling are those of the packaged bundle; another has its own.",
)
@click.argument("image")
@click.argument("audio")
@click.option(
    "-o",
    "--output",
    help="MP4, WebM, WebP, GIF or folder/ to write, - for standard output "
    "[default: IMAGE's name with .mp4]",
)
@click.option(
    "--length", help="full, or seconds, or as 1:02.5  [default: as long as the networks' window]"
)
@click.option("--resume", is_flag=True, help="Go on with a long clip that was interrupted")
@click.option("--prompt", default="", help="What is seen and heard, in a few words")
@click.option("--start", default="0", show_default=True, help="Of AUDIO: seconds, or as 1:02.5")
@click.option("--fit", default="crop", show_default=True, help="crop, or pad to show all of IMAGE")
@click.option(
    "--position",
    default="centre",
    show_default=True,
    help="Of the crop: centre, top, bottom, left, right or x,y from 0 to 1",
)
@click.option(
    "--scale", type=int, default=1, show_default=True, help="How many times larger to write it"
)
@click.option("--seed", default=0, show_default=True, help="Of all noise: same seed, same clip")
@click.option("--keyframes", default="auto", show_default=True, help="auto, uniform or 0,3,...")
@_sampling_options
@click.option(
    "--cfg-batch", type=int, help="Guidance branches per call  [default: what the memory allows]"
)
@click.option(
    "--max-memory",
    type=_size,
    metavar="SIZE",
    help="Memory to take at most, as 12G or 12GiB  [default: what is free]",
)
@click.option("--bundle", default=_DEFAULT_BUNDLE, show_default=True, help="Model: name or folder")
@click.option("--engine", default="auto", show_default=True, help="As keyvid-doctor lists them")
@click.option(
    "--threads", type=click.IntRange(1, _MOST_THREADS), help="CPU threads  [default: all cores]"
)
@click.option("--report", help="JSON to write: timings, memory, versions, settings")
@click.option("--plot", help="PNG to write: sound, motion, keyframes, all frames")
@common_options
def _infer(
    image: str,
    audio: str,
    output: str | None,
    report: str | None,
    plot: str | None,
    scale: int,
    resume: bool,
    **options: Any,
) -> None:
    """Animate the picture IMAGE to the sound AUDIO (or the sound of a video)."""
    output = output or _default_output(image)
    _check_results(output, report, plot, scale, inputs=[image, audio])

    from keyvid.runtime.plot import write_plot
    from keyvid.runtime.report import write_report
    from keyvid.runtime.video import write_video

    wanted = [path for path in (output, report, plot) if path]
    with _told_what_is_written(wanted) as written, _journal(output, resume) as journal:
        clip, pipeline = _make_clip(image, audio, options, journal)
        write_video(output, clip.frames, clip.fps, clip.sound, scale=scale)
        written.append(output)
        if report:
            inputs = {"image": image, "audio": audio, "output": output}
            asked = {name: options[name] for name in _ASKED}
            write_report(Path(report), clip, pipeline, {**inputs, **asked})
            written.append(report)
        if plot:
            write_plot(Path(plot), clip, f"{Path(image).name} + {Path(audio).name}")
            written.append(plot)
    _say_what_came_of_it(output, clip, pipeline)


@contextmanager
def _journal(output: str, resume: bool) -> "Iterator[Journal]":
    """Where a long clip lies while it is made: beside the result; gone when that is written."""
    from tempfile import TemporaryDirectory

    from keyvid.runtime.journal import Journal

    if output == "-":
        with TemporaryDirectory() as folder:
            yield Journal(Path(folder))
        return
    path = Path(output)
    journal = Journal(path.with_name(f".{path.name}.parts"), resume=resume)
    try:
        yield journal
    except BaseException as stop:
        if journal.num_windows:
            stop.add_note(f"{journal.num_windows} windows of it are kept, --resume goes on")
            journal.close()
        else:
            journal.remove()
        raise
    journal.remove()


def _make_clip(
    image: str, audio: str, options: dict[str, Any], journal: "Journal"
) -> "tuple[Clip, Pipeline]":
    from keyvid.runtime.pipeline import Pipeline
    from keyvid.runtime.progress import ProgressDisplay
    from keyvid.runtime.request import Request

    names = {option.name for option in sampling_options()}
    sampling = {name: value for name, value in options.items() if name in names}
    request = Request(
        image,
        audio,
        prompt=options["prompt"],
        seed=options["seed"],
        settings=settings_from(sampling, options["cfg_batch"]),
        **{name: options[name] for name in _ASKED},
    )
    pipeline = Pipeline.load(
        options["bundle"],
        options["engine"],
        threads=options["threads"],
        max_memory=options["max_memory"],
    )
    with ProgressDisplay(len(pipeline.bundle.stages)) as progress:
        clip = pipeline.make(request, progress, journal)
    return clip, pipeline


def _default_output(image: str) -> str:
    stem = "" if image == "-" else Path(image).stem
    return f"{stem or 'clip'}.mp4"


def _check_results(
    output: str, report: str | None, plot: str | None, scale: int, inputs: list[str]
) -> None:
    """Refuse what could not be written, before the work.

    Raises:
        MediaError, SettingsError: what is wrong with it.
    """
    from keyvid.runtime.outputs import check_clip_output, check_output
    from keyvid.runtime.video import check_scale

    files = [Path(name) for name in inputs if name != "-"]
    check_scale(scale)
    check_clip_output(output, files)
    if report:
        check_output(Path(report), ".json", files)
    if plot:
        check_output(Path(plot), ".png", files)


@contextmanager
def _told_what_is_written(wanted: list[str]) -> Iterator[list[str]]:
    """A list to append to; after an interruption the user is told what is in it and what is not."""
    written: list[str] = []
    try:
        yield written
    except KeyboardInterrupt as stop:
        missing = " and ".join(path for path in wanted if path not in written)
        stop.add_note(
            f"{' and '.join(written)} written, not {missing}" if written else "nothing written"
        )
        raise


def _say_what_came_of_it(output: str, clip: "Clip", pipeline: "Pipeline") -> None:
    """The result's name on standard output, for programs; a line for people last."""
    from keyvid.runtime.progress import duration_text

    log.info("%s: %s", pipeline.engine.name, pipeline.engine.reason)
    if output != "-" and not sys.stdout.isatty():
        click.echo(os.fsencode(output))
    took = duration_text(sum(clip.timings.values()))
    say(f"{output}: {len(clip.frames)} frames in {took} on {pipeline.engine.name}")
