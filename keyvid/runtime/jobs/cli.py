"""`keyvid-infer`: the command line around `keyvid.runtime.pipeline`.

The pipeline and its libraries are imported when a clip is made, so that `--help` comes at once.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import click

from keyvid.command import CONTEXT, common_options, run_command, say
from keyvid.sampling import DEFAULT_QUALITY
from keyvid.sampling import options as sampling_options
from keyvid.sizes import parse_size

_DEFAULT_BUNDLE = "tiny"
_MOST_THREADS = 1024
_LOADING = ("bundle", "engine", "threads", "max_memory")  # arguments of `Pipeline.load`
_OF_ONE_CLIP = ("output", "report", "plot")

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
        whole = {"quality": DEFAULT_QUALITY, "temporal": sampling["temporal"]}
        return {**sampling["generator"], **alone, **whole}
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
@click.argument("image", required=False)
@click.argument("audio", required=False)
@click.option(
    "--jobs",
    metavar="FILE",
    help="Many clips: .jsonl or .csv with image, audio and any of these options a line",
)
@click.option("--ray", is_flag=True, help="Make the clips of --jobs on a Ray cluster")
@click.option(
    "--workers",
    type=click.IntRange(0, _MOST_THREADS),
    default=0,
    help="Of --ray  [default: one for each GPU, or as many as the CPUs have --threads]",
)
@click.option(
    "-o",
    "--output",
    help="MP4, WebM, WebP, GIF or folder/ to write, - for standard output "
    "[default: IMAGE's name with .mp4]",
)
@click.option(
    "--length", help="full, or seconds, or as 1:02.5  [default: as long as the networks' window]"
)
@click.option(
    "--resume", is_flag=True, help="Go on with a long clip that was interrupted; --jobs does"
)
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
    image: str | None,
    audio: str | None,
    jobs: str | None,
    ray: bool,
    workers: int,
    resume: bool,
    cfg_batch: int | None,
    **options: Any,
) -> None:
    """Animate the picture IMAGE to the sound AUDIO (or the sound of a video)."""
    loading = {name: options.pop(name) for name in _LOADING}
    if jobs is not None:
        if image or any(options[name] for name in _OF_ONE_CLIP):
            raise click.UsageError(
                "With --jobs, IMAGE, AUDIO, --output, --report and --plot stand in its file."
            )
        _make_all(Path(jobs), options, loading, cfg_batch, workers if ray else None)
        return
    if ray:
        raise click.UsageError("--ray needs --jobs.")
    for name, value in (("IMAGE", image), ("AUDIO", audio)):
        if value is None:
            raise click.UsageError(f"Missing argument '{name}'.")
    _make_one({"image": image, "audio": audio, **options}, loading, cfg_batch, resume)


def _make_one(
    values: dict[str, Any], loading: dict[str, Any], cfg_batch: int | None, resume: bool
) -> None:
    from keyvid.runtime.jobs.job import check_results, job_from, make_clip, tell_result
    from keyvid.runtime.pipeline import Pipeline
    from keyvid.runtime.progress import ProgressDisplay, duration_text

    job = job_from(values, cfg_batch=cfg_batch)
    check_results(job)
    with _told_what_is_written(job.results) as written:
        pipeline = Pipeline.load(**loading)
        with ProgressDisplay(len(pipeline.bundle.stages)) as progress:
            clip = make_clip(job, pipeline, progress, resume=resume, on_written=written.append)
    log.info("%s: %s", pipeline.engine.name, pipeline.engine.reason)
    tell_result(job.output)
    took = duration_text(sum(clip.timings.values()))
    say(f"{job.output}: {len(clip.frames)} frames in {took} on {pipeline.engine.name}")


def _make_all(
    path: Path,
    defaults: dict[str, Any],
    loading: dict[str, Any],
    cfg_batch: int | None,
    num_workers: int | None,
) -> None:
    """The clips of a file, in this process or on so many workers on Ray (0: all that it has)."""
    from keyvid.runtime.jobs.batch import run_here, run_jobs
    from keyvid.runtime.jobs.job_file import read_jobs

    entries = read_jobs(path, defaults, loading["bundle"], cfg_batch)
    if num_workers is None:
        run_jobs(path, entries, partial(run_here, loading))
    else:
        from keyvid.runtime.jobs.ray_workers import run_on_ray

        run_jobs(path, entries, partial(run_on_ray, loading, num_workers))


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
