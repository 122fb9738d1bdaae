"""`keyvid-infer`: the command line around `keyvid.runtime.pipeline`.

The pipeline and its libraries are imported when a clip is made, so that `--help` comes at once.
"""

import json
import logging
import mimetypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import click

from keyvid.command import CONTEXT, common_options, end_process, run_command, say
from keyvid.counting import counted
from keyvid.provenance.signing import signer_of, signing_options
from keyvid.sampling import DEFAULT_QUALITY
from keyvid.sizes import parse_size
from keyvid.vocabulary import options

_DEFAULT_BUNDLE = "tiny"
_MOST_THREADS = 1024
_LOADING = ("bundle", "engine", "threads", "max_memory")  # arguments of `Pipeline.load`
_OF_ONE_CLIP = ("output", "report", "plot")
_SHORT = {"output": ("-o",)}

# Pipelines, which would be taken apart where their last name ends: see `end_process`.
_HELD: list[Any] = []

log = logging.getLogger(__name__)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-infer` and give its exit code, see `keyvid.command`.

    As the command of this process (`args` None) it ends it, see `end_process`.
    """
    code = run_command(_infer, "keyvid-infer", args)
    if args is None:
        end_process(code)
    _HELD.clear()
    return code


def _size(text: str) -> int:
    """Bytes of a size as people write it."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


class _ChoiceOption(click.Option):
    """An option whose help shows what the packaged bundle says, read when it is shown."""

    def __init__(self, *args: Any, default_in_words: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_words = default_in_words

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        names, text = super().get_help_record(ctx) or ("", "")
        default = self._in_words or _packaged_sampling().get(str(self.name), "the bundle's")
        return names, f"{text}  [default: {default}]"


class _Command(click.Command):
    """A command that knows what people look for and is called otherwise."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name != "--loop":
                raise
            raise click.UsageError("No such option '--loop'. Did you mean '--end first'?") from None


@cache
def _packaged_sampling() -> dict[str, Any]:
    """Sampling of the default bundle by the options' names; nothing where it cannot be read."""
    from keyvid.bundle.manifest import MANIFEST, find_bundle

    try:
        content = json.loads((find_bundle(_DEFAULT_BUNDLE) / MANIFEST).read_bytes())
        sampling = content["sampling"]
        alone = {f"interpolator_{name}": v for name, v in sampling["interpolator"].items()}
        whole = {"quality": DEFAULT_QUALITY, "temporal": sampling["temporal"]}
        return {**sampling["generator"], **alone, **whole}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _choices(command: Callable[..., None]) -> Callable[..., None]:
    """An option for each choice of `keyvid.vocabulary`."""
    for option in reversed(list(options())):
        names = [f"--{option.dashed}", *_SHORT.get(option.name, ())]
        command = click.option(
            *names,
            cls=_ChoiceOption,
            type=option.kind,
            metavar="|".join(option.choices) or None,
            help=option.help,
            default_in_words=option.default,
        )(command)
    return command


@click.command(
    cls=_Command,
    context_settings=CONTEXT,
    epilog="The sampling defaults shown are those of the packaged bundle; other bundles have their "
    "own. An option of both U-Nets also changes the interpolator, unless --interpolator-... is "
    "given: with the packaged bundle --steps 8 raises its steps from 3 to 8, and "
    "--guidance-audio 2 adds a second guidance branch to it.",
)
@click.argument("image", required=False)
@click.argument("audio", required=False)
@click.option(
    "--jobs",
    metavar="FILE",
    help="Make many clips: .jsonl or .csv, each line with image, audio and any of these options",
)
@click.option("--ray", is_flag=True, help="Run --jobs on a Ray cluster")
@click.option(
    "--workers",
    type=click.IntRange(0, _MOST_THREADS),
    default=0,
    help="Workers of --ray  [default: one per GPU; without GPUs, one per --threads CPUs]",
)
@click.option(
    "--outputs-anywhere", is_flag=True, help="Let --jobs write outside the folder of its file"
)
@click.option("--resume", is_flag=True, help="Continue an interrupted clip (--jobs always does)")
@_choices
@click.option(
    "--no-receipt",
    "has_no_receipt",
    is_flag=True,
    help="Do not write into the clip how it was made: prompt, seed, settings, digests",
)
@signing_options
@click.option(
    "--max-memory",
    type=_size,
    metavar="SIZE",
    help="Memory limit, such as 12G or 12GiB  [default: what is free]",
)
@click.option(
    "--bundle",
    default=_DEFAULT_BUNDLE,
    show_default=True,
    help="Model: a packaged name or a folder",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="Engine: auto or a name that keyvid-doctor lists",
)
@click.option(
    "--threads", type=click.IntRange(1, _MOST_THREADS), help="CPU threads  [default: all cores]"
)
@common_options
def _infer(
    image: str | None,
    audio: str | None,
    jobs: str | None,
    ray: bool,
    workers: int,
    outputs_anywhere: bool,
    resume: bool,
    has_no_receipt: bool,
    sign: Path | None,
    key: Path | None,
    **values: Any,
) -> None:
    """Animate the picture IMAGE to the sound AUDIO (or the sound of a video)."""
    loading = {name: values.pop(name) for name in _LOADING}
    if has_no_receipt:
        values["receipt"] = False
    if signer := signer_of(sign, key):
        values["signer"] = signer
    if jobs is not None:
        if image or any(values[name] for name in _OF_ONE_CLIP):
            raise click.UsageError(
                "With --jobs, put IMAGE, AUDIO, --output, --report and --plot into the job file."
            )
        _make_all(Path(jobs), values, loading, workers if ray else None, outputs_anywhere)
        return
    if ray:
        raise click.UsageError("--ray needs --jobs.")
    for name, value in (("IMAGE", image), ("AUDIO", audio)):
        if value is None:
            raise click.UsageError(f"Missing argument '{name}'.")
    if [_kind(image), _kind(audio)] == ["audio", "image"]:
        raise click.UsageError(f"IMAGE comes first, then AUDIO, as in: {audio} {image}.")
    _make_one({"image": image, "audio": audio, **values}, loading, resume)


def _kind(name: str | None) -> str:
    """audio, image or video, by a file's name."""
    return (mimetypes.guess_type(name or "")[0] or "").split("/")[0]


def _make_one(values: dict[str, Any], loading: dict[str, Any], resume: bool) -> None:
    from keyvid.runtime.media import isolation

    # NumPy's own threads would wait for work, busily, beside those of the networks.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    isolation.warm_up()  # it starts while this process imports what it needs

    from keyvid.runtime.localizer import num_stages
    from keyvid.runtime.outputs import (
        asked_for,
        check_outputs,
        make_outputs,
        tell_output,
    )
    from keyvid.runtime.pipeline import Pipeline
    from keyvid.runtime.progress import ProgressDisplay, duration_text

    request, outputs = asked_for(values)
    check_outputs(outputs, request.files.values())
    with _told_what_is_written(outputs.names) as written:
        pipeline = Pipeline.load(**loading)
        _HELD.append(pipeline)
        prepared = pipeline.prepare(request)
        with ProgressDisplay(num_stages(pipeline.bundle, prepared)) as progress:
            clip = make_outputs(
                outputs, prepared, pipeline, progress, resume=resume, on_written=written.append
            )
    log.info("%s: %s", pipeline.engine.name, pipeline.engine.reason)
    tell_output(outputs.output)
    took = duration_text(sum(clip.timings.values()))
    frames = counted(len(clip.frames), "frame")
    say(f"{outputs.output}: {frames} in {took} on {pipeline.engine.name}")


def _make_all(
    path: Path,
    defaults: dict[str, Any],
    loading: dict[str, Any],
    num_workers: int | None,
    anywhere: bool,
) -> None:
    """The clips of a file, in this process or on so many workers on Ray (0: all that it has)."""
    from keyvid.runtime.jobs.batch import run_here, run_jobs
    from keyvid.runtime.jobs.job_file import read_jobs

    entries, faults = read_jobs(path, defaults, loading["bundle"], anywhere=anywhere)
    if num_workers is None:
        run_jobs(path, entries, faults, partial(run_here, loading))
    else:
        from keyvid.runtime.jobs.ray_workers import run_on_ray

        run_jobs(path, entries, faults, partial(run_on_ray, loading, num_workers))


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
