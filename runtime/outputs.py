"""Result files: checked before the work starts, written whole or not at all."""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from keyvid.errors import MediaError

_PROBE_BYTES = 4 << 20  # more than a clip, a report or a plot of the published size takes


def check_output(path: Path, suffix: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse a result path that could not be written, or that is one of the inputs.

    A probe is written beside `path` and removed again, so that a full or read-only disk is found
    before the work and not after it. An existing file at `path` is left as it is.

    Raises:
        MediaError: what is wrong with the path.
    """
    if path.suffix.lower() != suffix:
        raise MediaError(
            f"{path}: the result is a {suffix} file; give a name that ends in {suffix}"
        )
    if path.is_dir():
        raise MediaError(f"{path}: is a folder; give the name of a {suffix} file")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise MediaError(f"{path}: would overwrite the input; give another name")
    with _temporary(path) as (file, _):
        file.write(bytes(_PROBE_BYTES))


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds part of the content, whatever interrupts it.

    Raises:
        MediaError: the file could not be written; what stood under its name before still does.
    """
    with _temporary(path) as (file, temporary):
        file.write(content)
        file.close()  # a full disk may show only here
        temporary.replace(path)


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open file beside `path` that is gone afterwards, unless it was renamed."""
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            try:
                yield file, temporary
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {_reason(path, error)}") from error


def _reason(path: Path, error: OSError) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; create it or choose another"
    return f"{error.strerror}; choose another folder"
