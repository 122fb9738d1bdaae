"""The files that come of a clip: checked before the work, made, and written."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from keyvid.errors import ProvenanceError
from keyvid.file_safety import beside
from keyvid.provenance.credentials import MEDIA_TYPES
from keyvid.runtime.clip import Clip
from keyvid.runtime.diffusion.diffusion import place_of
from keyvid.runtime.journal import Journal
from keyvid.runtime.media.outputs import check_clip_output, check_output, clip_kind
from keyvid.runtime.media.sources import STANDARD_STREAM, shown
from keyvid.runtime.media.video import check_scale
from keyvid.runtime.motion import files_told
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.plot import write_plot
from keyvid.runtime.report import make_report, write_report
from keyvid.runtime.request import Prepared, Request, request_from
from keyvid.vocabulary import Outputs, options

_FILES = ("image", "audio", *(option.name for option in options() if option.is_file))


def default_output(image: str) -> str:
    """The clip's name where none is given: that of the picture."""
    stem = "" if image == STANDARD_STREAM else Path(image).stem
    return f"{stem or 'clip'}.mp4"


def asked_for(values: Mapping[str, Any], folder: str = "") -> tuple[Request, Outputs]:
    """What is asked for by names: `image`, `audio` and the options of `keyvid.vocabulary`.

    Args:
        values: of the kinds that the options have; None or a missing one leaves the default.
        folder: what the names of files are relative to, "" for where the user stands.
    """
    given = {name: value for name, value in values.items() if value is not None}
    given.setdefault("output", default_output(given["image"]))
    files = {name: given[name] for name in _FILES if name in given} | files_told(given)
    given |= {name: os.path.join(folder, file) for name, file in files.items()}
    written = {
        field.name: given.pop(field.name) for field in fields(Outputs) if field.name in given
    }
    return request_from(given.pop("image"), given.pop("audio"), given), Outputs(**written)


def check_outputs(outputs: Outputs, inputs: Iterable[str]) -> None:
    """Refuse what could not be written, before the work.

    Args:
        inputs: files that are read.
    Raises:
        MediaError, SettingsError: what is wrong with it.
    """
    sources = [Path(name) for name in inputs if name != STANDARD_STREAM]
    check_scale(outputs.scale)
    check_clip_output(outputs.output, sources)
    if outputs.signer:
        outputs.signer.check()
        _check_can_be_signed(outputs.output)
    if outputs.report:
        check_output(Path(outputs.report), ".json", sources)
    if outputs.plot:
        check_output(Path(outputs.plot), ".png", sources)


def _check_can_be_signed(output: str) -> None:
    kind = clip_kind(output)
    if kind not in (*MEDIA_TYPES, STANDARD_STREAM):
        raise ProvenanceError(
            f"{shown(output)}: no content credentials are written into files of this kind; give a "
            f"name that ends in {', '.join(MEDIA_TYPES)}"
        )


def make_outputs(
    outputs: Outputs,
    prepared: Prepared,
    pipeline: Pipeline,
    progress: Progress | None = None,
    *,
    resume: bool = False,
    on_written: Callable[[str], None] = lambda name: None,
    tell_path: bool = True,
) -> Clip:
    """Make the clip and write its files, which `check_outputs` has let pass.

    Args:
        resume: go on with a clip that was interrupted.
        on_written: called with the name of each file that is written.
        tell_path: whether the clip's remarks and the report say where files lie.
    """
    with journal_of(outputs.output, resume) as journal:
        clip = pipeline.make(prepared, progress, journal)
        told = outputs.output
        if not tell_path:
            folder, told = f"{Path(told).parent}{os.sep}", Path(told).name
            clip = replace(clip, remarks=tuple(r.replace(folder, "") for r in clip.remarks))
        receipt = clip.save(
            outputs.output, scale=outputs.scale, receipt=outputs.receipt, signer=outputs.signer
        )
        on_written(outputs.output)
        if outputs.report:
            asked = {**prepared.asked, "output": told, "scale": outputs.scale}
            report = make_report(clip, pipeline, asked, receipt, tell_path=tell_path)
            write_report(Path(outputs.report), report)
            on_written(outputs.report)
        if outputs.plot:
            write_plot(Path(outputs.plot), clip, _title(prepared))
            on_written(outputs.plot)
    return clip


def is_interrupted(output: str) -> bool:
    """Whether a clip of this name was begun and not ended."""
    return _journal_folder(output).is_dir()


def tell_output(name: str) -> None:
    """A clip's name on standard output, for programs; nobody to read it is no reason to stop."""
    if name == STANDARD_STREAM or sys.stdout.isatty():
        return
    try:
        click.echo(os.fsencode(name))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in its buffer goes nowhere


def _title(prepared: Prepared) -> str:
    """The inputs by their names, or what is seen and heard."""
    names = [Path(prepared.asked[k]).name for k in ("image", "audio") if k in prepared.asked]
    return " + ".join(names) or prepared.prompt or "Clip"


@contextmanager
def journal_of(output: str, resume: bool) -> Iterator[Journal]:
    """Where a clip lies while it is made: beside the result; gone when that is written."""
    if output == STANDARD_STREAM:
        with TemporaryDirectory() as folder:
            yield Journal(Path(folder))
        return
    journal = Journal(_journal_folder(output), resume=resume)
    try:
        yield journal
    except BaseException as stop:
        if journal.state:
            stop.add_note(f"kept up to {place_of(journal.state)}, --resume goes on")
            journal.close()
        else:
            journal.remove()
        raise
    journal.remove()


def _journal_folder(output: str) -> Path:
    return beside(Path(output), ".", ".parts")
