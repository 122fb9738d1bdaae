"""A job: one clip to make, and the files that come of it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from keyvid.runtime.clip import Clip
from keyvid.runtime.journal import Journal
from keyvid.runtime.media.outputs import check_clip_output, check_output
from keyvid.runtime.media.sources import STANDARD_STREAM
from keyvid.runtime.media.video import check_scale, write_video
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.plot import write_plot
from keyvid.runtime.report import write_report
from keyvid.runtime.request import Request
from keyvid.sampling import options, settings_from

_SAMPLING = {option.name: option.kind for option in options()}
_KEPT = ("start", "length", "fit", "position", "keyframes")  # of what is asked for, in the report
_REQUESTED = ("prompt", "seed", *_KEPT)
_FILES = ("image", "audio", "output", "report", "plot")
# What a job may say by name, and the kind of each value.
KEYS: dict[str, type] = {
    **dict.fromkeys((*_FILES, *_REQUESTED), str),
    "seed": int,
    "scale": int,
    **_SAMPLING,
}


@dataclass(frozen=True)
class Job:
    """One clip to make, and the files that come of it.

    Attributes:
        request: what the clip is made of; picture and sound by their names.
        output: see `write_video`.
        scale: see `write_video`.
        report, plot: files to write too, None for none.
    """

    request: Request
    output: str
    scale: int = 1
    report: str | None = None
    plot: str | None = None

    @property
    def inputs(self) -> list[str]:
        """The files that are read."""
        return [str(name) for name in (self.request.image, self.request.audio)]

    @property
    def results(self) -> list[str]:
        """The files that are written, in this order."""
        return [name for name in (self.output, self.report, self.plot) if name]


def default_output(image: str) -> str:
    """The result's name where none is given."""
    stem = "" if image == STANDARD_STREAM else Path(image).stem
    return f"{stem or 'clip'}.mp4"


def job_from(values: dict[str, Any], folder: str = "", cfg_batch: int | None = None) -> Job:
    """The job of values by the names of `KEYS`; None or a missing one leaves the default.

    The result is named after the picture where no name is given.

    Args:
        folder: what the names of files are relative to, "" for where the user stands.
        cfg_batch: see `keyvid.sampling.Settings`.
    """
    given = {name: value for name, value in values.items() if value is not None}
    given.setdefault("output", default_output(given["image"]))
    files = {name: os.path.join(folder, given[name]) for name in _FILES if name in given}
    request = Request(
        files.pop("image"),
        files.pop("audio"),
        settings=settings_from({k: v for k, v in given.items() if k in _SAMPLING}, cfg_batch),
        **{name: given[name] for name in _REQUESTED if name in given},
    )
    return Job(request, scale=given.get("scale", 1), **files)


def check_results(job: Job) -> None:
    """Refuse what could not be written, before the work.

    Raises:
        MediaError, SettingsError: what is wrong with it.
    """
    inputs = [Path(name) for name in job.inputs if name != STANDARD_STREAM]
    check_scale(job.scale)
    check_clip_output(job.output, inputs)
    if job.report:
        check_output(Path(job.report), ".json", inputs)
    if job.plot:
        check_output(Path(job.plot), ".png", inputs)


def make_clip(
    job: Job,
    pipeline: Pipeline,
    progress: Progress | None = None,
    *,
    resume: bool = False,
    on_written: Callable[[str], None] = lambda name: None,
) -> Clip:
    """Make the clip and write its files, which `check_results` has let pass.

    Args:
        resume: go on with a long clip that was interrupted.
        on_written: called with the name of each file that is written.
    """
    with _journal(job.output, resume) as journal:
        clip = pipeline.make(job.request, progress, journal)
        write_video(job.output, clip.frames, clip.fps, clip.sound, scale=job.scale)
        on_written(job.output)
        image, audio = job.inputs
        if job.report:
            asked = {name: getattr(job.request, name) for name in _KEPT}
            inputs = {"image": image, "audio": audio, "output": job.output, **asked}
            write_report(Path(job.report), clip, pipeline, inputs)
            on_written(job.report)
        if job.plot:
            write_plot(Path(job.plot), clip, f"{Path(image).name} + {Path(audio).name}")
            on_written(job.plot)
    return clip


def is_interrupted(job: Job) -> bool:
    """Whether a long clip of this name was begun and not ended."""
    return _journal_folder(job.output).is_dir()


def tell_result(name: str) -> None:
    """A result's name on standard output, for programs; nobody to read it is no reason to stop."""
    if name == STANDARD_STREAM or sys.stdout.isatty():
        return
    try:
        click.echo(os.fsencode(name))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in its buffer goes nowhere


@contextmanager
def _journal(output: str, resume: bool) -> Iterator[Journal]:
    """Where a long clip lies while it is made: beside the result; gone when that is written."""
    if output == STANDARD_STREAM:
        with TemporaryDirectory() as folder:
            yield Journal(Path(folder))
        return
    journal = Journal(_journal_folder(output), resume=resume)
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


def _journal_folder(output: str) -> Path:
    path = Path(output)
    return path.with_name(f".{path.name}.parts")
