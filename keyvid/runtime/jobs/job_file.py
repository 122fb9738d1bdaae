"""A job file read and checked: many clips, a line each, as JSON lines or CSV."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyvid.bundle.strict_json import parse_json
from keyvid.errors import MediaError, SettingsError
from keyvid.options import WANTED
from keyvid.runtime.media.sources import STANDARD_STREAM, open_source, shown
from keyvid.runtime.outputs import asked_for, default_output
from keyvid.runtime.request import Request
from keyvid.vocabulary import Outputs, options

_OPTIONS = {option.name: option for option in options()}
_KEYS = ("image", "audio", *_OPTIONS)
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


def read_jobs(path: Path, defaults: dict[str, Any], bundle: str) -> list[Entry]:
    """The jobs of a file, checked as far as the file tells.

    Args:
        path: .jsonl, an object a line, or .csv with the keys in its first line: image, audio
            and the names of `keyvid.vocabulary.options`. Names of files in it are relative to its
            folder.
        defaults: values for the jobs that do not have their own.
        bundle: what the clips are made with, a part of the keys.
    Raises:
        MediaError: the file cannot be read.
        SettingsError: says in which line what is wrong.
    """
    read_rows = {".jsonl": _json_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if not read_rows:
        raise MediaError(f"{shown(path)}: want a job file that ends in .jsonl or .csv")
    with open_source(path, "job file") as (_, file):
        content = file.read().removeprefix(_BYTE_ORDER_MARK)
    entries = []
    for line, row in read_rows(path, content):
        with _blaming(path, line):
            values = {k: v for k, v in (defaults | _checked(row)).items() if v is not None}
            name = values.get("output") or default_output(values["image"])
            asked = asked_for(values, os.path.dirname(path))
            entries.append(Entry(line, name, _key(values, bundle), *asked))
    if not entries:
        raise SettingsError(f"{shown(path)}: holds no job; write one in a line of its own")
    _check_distinct(path, entries)
    return entries


def _key(values: dict[str, Any], bundle: str) -> str:
    said = sorted(item for item in values.items() if item[0] not in _ONLY_ROUNDING)
    return hashlib.sha256(json.dumps([bundle, said]).encode()).hexdigest()[:16]


def _json_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(content.split(b"\n"), 1):
        if text.strip():
            with _blaming(path, line):
                row = parse_json(text)
                if not isinstance(row, dict):
                    raise ValueError('want an object such as {"image": "a.png", "audio": "a.wav"}')
            yield line, row


def _csv_rows(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Empty cells are left out."""
    with _blaming(path, 1):
        rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        keys = next(rows, [])
        if len(set(keys)) < len(keys):
            raise ValueError("a key stands twice")
        _check_known(keys)
    while True:
        with _blaming(path, rows.line_num + 1):
            cells = next(rows, None)
            if cells is None:
                return
            if len(cells) > len(keys):
                raise ValueError(f"{len(cells)} cells under {len(keys)} keys")
        if row := {key: cell for key, cell in zip(keys, cells, strict=False) if cell}:
            yield rows.line_num, row


@contextmanager
def _blaming(path: Path, line: int) -> Iterator[None]:
    try:
        yield
    except (ValueError, csv.Error) as error:
        raise SettingsError(f"{shown(path)}, line {line}: {error}") from None


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
            raise ValueError(f"unknown key {key!r:.60}; valid are {', '.join(_KEYS)}")


def _typed(key: str, value: Any) -> Any:
    kind = _OPTIONS[key].kind if key in _OPTIONS else str
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if kind is int and isinstance(value, float):
            raise ValueError
        typed = kind(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{key} is {value!r:.40}, want {WANTED[kind]}") from None
    if kind is str and not typed.isprintable():
        raise ValueError(f"{key} is {value!r:.40}, want printable characters")
    return typed


def _check_distinct(path: Path, entries: list[Entry]) -> None:
    """Refuse a result that another job, or the same one, writes or reads, too."""
    read = {
        os.path.realpath(name): entry.line
        for entry in entries
        for name in entry.request.files.values()
    }
    written: dict[str, int] = {}
    for entry in entries:
        for name in entry.outputs.names:
            place = os.path.realpath(name)
            with _blaming(path, entry.line):
                if place in read:
                    raise ValueError(f"would overwrite {shown(name)}, read in line {read[place]}")
                if place in written:
                    other = written[place]
                    raise ValueError(f"{shown(name)} is written by line {other}; give another name")
            written[place] = entry.line
