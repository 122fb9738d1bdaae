"""A job file read and checked: many clips, a line each."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyvid.errors import KeyvidError, SettingsError
from keyvid.options import WANTED
from keyvid.runtime.jobs.job_table import read_rows, unknown_key
from keyvid.runtime.media.sources import STANDARD_STREAM, shown
from keyvid.runtime.outputs import asked_for, default_output
from keyvid.runtime.request import Request
from keyvid.vocabulary import Outputs, options

_OPTIONS = {option.name: option for option in options()}
_KEYS = ("image", "audio", *_OPTIONS)
_TIMES = ("start", "length")
_DECIMAL_COMMA = re.compile(r"^\s*([+-]?\d+),(\d+)\s*$")  # as spreadsheets of half the world write
_WHOLE = re.compile(r"^\s*([+-]?\d+)[.,]0+\s*$")  # as tools write whole numbers beside gaps
_ONLY_ROUNDING = {"cfg_batch"}  # which hardly changes a clip: it is not made again for that
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Entry:
    """A job as it stands in a file.

    Attributes:
        line: of the file, from 1.
        name: of the result, as the file has it.
        key: made from all that the job says; the same job has the same one in each run.
    """

    line: int
    name: str
    key: str
    request: Request
    outputs: Outputs


@dataclass(frozen=True)
class Fault:
    """A line of a file that no clip can be made of.

    Attributes:
        line: of the file, from 1.
        error: what is wrong with it.
    """

    line: int
    error: str


def read_jobs(
    path: Path, defaults: dict[str, Any], bundle: str, *, anywhere: bool = False
) -> tuple[list[Entry], list[Fault]]:
    """The jobs of a file, checked as far as the file tells, and the lines that are none.

    Args:
        path: see `read_rows`; keys are image, audio and the names of `keyvid.vocabulary.options`.
            Names of files in it are relative to its folder.
        defaults: values for the jobs that do not have their own.
        bundle: what the clips are made with, a part of the keys.
        anywhere: whether results may lie outside its folder.
    Raises:
        MediaError, SettingsError: the file as a whole cannot be read, or holds no line.
    """
    entries: list[Entry] = []
    faults: list[Fault] = []
    for row in read_rows(path, _KEYS):
        try:
            if row.error:
                raise ValueError(row.error)
            values = {k: v for k, v in (defaults | _checked(row.values)).items() if v is not None}
            name = values.get("output") or default_output(values["image"])
            request, outputs = asked_for(values, os.path.dirname(path))
            if not anywhere:
                _check_inside(path, outputs)
            entries.append(Entry(row.line, name, _key(values, bundle), request, outputs))
        except (ValueError, KeyvidError) as error:
            faults.append(Fault(row.line, str(error)))
    if not entries and not faults:
        raise SettingsError(f"{shown(path)}: holds no job; write one in a line of its own")
    clashes = [*_clashes(entries)]
    clashing = {fault.line for fault in clashes}
    entries = [entry for entry in entries if entry.line not in clashing]
    return entries, sorted([*faults, *clashes], key=lambda fault: fault.line)


def _check_inside(path: Path, outputs: Outputs) -> None:
    """Refuse results outside the folder of the job file, also where a link leads there."""
    folder = os.path.realpath(path.parent)
    for name in outputs.names:
        if os.path.commonpath([folder, os.path.realpath(name)]) != folder:
            raise ValueError(
                f"{shown(name)} lies outside the folder of the job file; give another name, or add "
                "--outputs-anywhere"
            )


def _key(values: dict[str, Any], bundle: str) -> str:
    said = sorted(item for item in values.items() if item[0] not in _ONLY_ROUNDING)
    text = json.dumps([bundle, said], default=str)  # a signer is told by its files
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    """A row's values, each of the kind that its key wants.

    Raises:
        ValueError: what is wrong.
    """
    _check_known(row)
    values = {key: _typed(key, value) for key, value in row.items()}
    for key in ("image", "audio"):
        if not values.get(key):
            raise ValueError(f"{key} is missing; want the name of a file")
    for key in ("image", "audio", "output"):
        if values.get(key) == STANDARD_STREAM:
            raise ValueError(f"{key} is -, want the name of a file")
    return values


def _check_known(keys: Any) -> None:
    for key in keys:
        if key not in _KEYS:
            raise ValueError(unknown_key(key, _KEYS))


def _typed(key: str, value: Any) -> Any:
    kind = _OPTIONS[key].kind if key in _OPTIONS else str
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        if isinstance(value, str) and (kind is float or key in _TIMES):
            value = _DECIMAL_COMMA.sub(r"\1.\2", value)
        if isinstance(value, str) and kind is int:
            value = _WHOLE.sub(r"\1", value)
        typed = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{key} is {value!r:.40}, want {WANTED[kind]}") from None
    if kind is str and not typed.isprintable():
        raise ValueError(f"{key} is {value!r:.40}, want printable characters")
    return typed


def _clashes(entries: list[Entry]) -> Iterator[Fault]:
    """The jobs that write a file which another job, or the same one, writes or reads, too."""
    read = {
        os.path.realpath(name): entry.line
        for entry in entries
        for name in entry.request.files.values()
    }
    written: dict[str, int] = {}
    for entry in entries:
        for name in entry.outputs.names:
            place = os.path.realpath(name)
            if place in read:
                error = f"would overwrite {shown(name)}, read in line {read[place]}"
            elif place in written:
                error = f"{shown(name)} is written by line {written[place]}; give another name"
            else:
                written[place] = entry.line
                continue
            yield Fault(entry.line, error)
            break
