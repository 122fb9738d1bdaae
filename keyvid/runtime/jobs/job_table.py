"""The rows of a job file, as people and spreadsheets write them: JSON lines or CSV."""

import codecs
import csv
import difflib
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyvid.bundle.strict_json import parse_json
from keyvid.counting import counted
from keyvid.errors import MediaError, SettingsError
from keyvid.remarks import remark
from keyvid.runtime.media.sources import open_source, shown

_DELIMITERS = ",;\t"
_UNICODE = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Row:
    """A line of a job file.

    Attributes:
        line: of the file, from 1.
        values: by their keys, those of `keyvid.vocabulary` where they are known.
        error: why it cannot be read, "" where it can.
    """

    line: int
    values: dict[str, Any]
    error: str = ""


def read_rows(path: Path, known: Collection[str]) -> Iterator[Row]:
    """The lines of a .jsonl file, or those of a .csv file under its heading, without empty cells.

    Keys may be written as `--help` has them, with capitals or spaces. Cells may be separated by
    commas, semicolons or tabs.

    Args:
        known: keys that have a meaning.
    Raises:
        MediaError: the file cannot be read, or has another ending.
        SettingsError: a CSV file has no heading of keys that are known.
    """
    read = {".jsonl": _json_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if not read:
        raise MediaError(f"{shown(path)}: want a job file that ends in .jsonl or .csv")
    with open_source(path, "job file") as (name, file):
        text = _decoded(file.read(), name)
    try:
        yield from read(text, known)
    except ValueError as error:
        raise SettingsError(f"{name}, line 1: {error}") from None


def _decoded(content: bytes, name: str) -> str:
    """Text of UTF-8, of UTF-16 that says so, or of what Windows writes in the west."""
    for mark, encoding in _UNICODE.items():
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    try:
        return content.decode()
    except UnicodeDecodeError:
        remark(f"{name}: is not UTF-8; read as Windows-1252")
        return content.decode("cp1252", "replace")


def _json_rows(text: str, known: Collection[str]) -> Iterator[Row]:
    for line, part in enumerate(text.split("\n"), 1):
        if not part.strip():
            continue
        try:
            content = parse_json(part.encode())
            if not isinstance(content, dict):
                raise ValueError('want an object such as {"image": "a.png", "audio": "a.wav"}')
            keys = [_key(key) for key in content]
            _check_once(keys)
            yield Row(line, dict(zip(keys, content.values(), strict=True)))
        except ValueError as error:
            yield Row(line, {}, str(error))


def _csv_rows(text: str, known: Collection[str]) -> Iterator[Row]:
    hint, _, rest = text.partition("\n")
    skipped = 0
    if hint.strip().lower().startswith("sep=") and len(hint.strip()) == 5:  # for spreadsheets
        text, skipped = rest, 1
    heading = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=lambda d: sum(_key(k) in known for k in heading.split(d)))
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        keys = [_key(key) for key in next(rows, [])]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    _check_once([key for key in keys if key])
    unknown = [key for key in keys if key and key not in known]
    if unknown:
        raise ValueError(unknown_key(unknown[0], known))
    while True:
        line = rows.line_num + 1 + skipped
        try:
            cells = next(rows, None)
            if cells is None:
                return
            values = _cells(keys, cells)
        except (csv.Error, ValueError) as error:
            yield Row(line, {}, str(error))
            continue
        if values:
            yield Row(line, values)


def unknown_key(key: str, known: Collection[str]) -> str:
    """What to say of a key that is none of `known`."""
    if close := difflib.get_close_matches(key, known, 1):
        return f"unknown key {key!r:.60}; did you mean {close[0]}?"
    return f"unknown key {key!r:.60}; valid are {', '.join(known)}"


def _cells(keys: list[str], cells: list[str]) -> dict[str, str]:
    """The cells that hold something, by their keys."""
    extra = [cell for cell in cells[len(keys) :] if cell.strip()]
    if extra:
        raise ValueError(
            f"{counted(len(cells), 'cell')} under {counted(len(keys), 'key')}, "
            f"the last is {extra[-1]!r:.40}"
        )
    values = {}
    for column, (key, cell) in enumerate(zip(keys, cells, strict=False), 1):
        if not cell.strip():
            continue
        if not key:
            raise ValueError(f"column {column} has no key, and holds {cell!r:.40}")
        values[key] = cell.strip()
    return values


def _key(text: str) -> str:
    """A key as `keyvid.vocabulary` has it: guidance_audio of "--Guidance-Audio "."""
    return text.strip().lstrip("-").lower().replace("-", "_").replace(" ", "_")


def _check_once(keys: list[str]) -> None:
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ValueError(f"key {twice[0]!r:.60} stands twice")
