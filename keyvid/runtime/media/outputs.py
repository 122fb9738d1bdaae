"""Result files: checked before the work starts, written whole or not at all."""

import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keyvid.containers import CONTAINERS
from keyvid.errors import MediaError
from keyvid.file_safety import NO_ROOM, temporary_file, temporary_folder, write_whole
from keyvid.runtime.media.sources import STANDARD_STREAM, is_possible_name, shown
from keyvid.sizes import format_size

FOLDER = "folder"

_PROBE_BYTES = 1 << 16  # less than most clips: an interrupted one goes on when there is room


def clip_kind(path: str | os.PathLike[str]) -> str:
    """What a clip becomes by the name of its result: a suffix, FOLDER or "-".

    Raises:
        MediaError: the name ends in none of the suffixes that are known.
    """
    name = os.fspath(path)
    suffix = Path(name).suffix.lower()
    if name == STANDARD_STREAM:
        return STANDARD_STREAM
    if name.endswith(os.sep) or not suffix:
        return FOLDER
    if suffix not in CONTAINERS:
        raise MediaError(
            f"{shown(path)}: no video of this kind is written; give a name that ends in "
            f"{', '.join(CONTAINERS)}, or in / for a folder of PNG files"
        )
    return suffix


def check_clip_output(path: str | os.PathLike[str], inputs: Iterable[Path] = ()) -> None:
    """Refuse a name under which a clip could not be written; see `check_output`.

    Raises:
        MediaError: what is wrong with the name.
    """
    kind = clip_kind(path)
    if kind == STANDARD_STREAM:
        if sys.stdout.isatty():
            raise MediaError("-: standard output is a terminal; send it to a file or a program")
    elif kind == FOLDER:
        _check_folder(Path(path))
    else:
        check_output(Path(path), kind, inputs)


def check_output(path: Path, suffix: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse a result path that could not be written, or that is one of the inputs.

    A probe is written beside `path` and removed again, so that a full or read-only disk is found
    before the work and not after it. An existing file at `path` is left as it is.

    Raises:
        MediaError: what is wrong with the path.
    """
    if path.suffix.lower() != suffix:
        raise MediaError(
            f"{shown(path)}: the result is a {suffix} file; give a name that ends in {suffix}"
        )
    for source in filter(is_possible_name, inputs if is_possible_name(path) else ()):
        if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
            raise MediaError(f"{shown(path)}: would overwrite the input; give another name")
    _check_replaceable(path, suffix)
    _probe(path)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds part of the content, whatever interrupts it.

    Raises:
        MediaError: the file could not be written; what stood under its name before still does.
    """
    with _blaming(path):
        write_whole(path, content)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, to be written by its name; renamed to `path` at the end.

    Raises:
        MediaError: as `write_atomic`.
    """
    with _blaming(path), temporary_file(path.parent) as (_, temporary):
        try:
            yield temporary
        except OSError as error:
            if error.errno in NO_ROOM:
                raise _no_room(error, temporary) from error
            raise
        temporary.replace(path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`, renamed to it at the end; `path` may be an empty folder.

    Raises:
        MediaError: as `write_atomic`.
    """
    with _blaming(path), temporary_folder(path.parent) as temporary:
        yield temporary
        temporary.rename(path)


def _check_folder(path: Path) -> None:
    with _blaming(path):
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise MediaError(f"{shown(path)}: is there and no folder; give another name")
        if path.is_dir() and any(path.iterdir()):
            raise MediaError(f"{shown(path)}: is a folder that is not empty; name a new one")
    _probe(path)


def _check_replaceable(path: Path, suffix: str) -> None:
    """Refuse what a new file must not take the place of."""
    with _blaming(path):
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
    if stat.S_ISDIR(mode):
        problem = f"is a folder; give the name of a {suffix} file"
    elif stat.S_ISLNK(mode):
        problem = "is a link, and links are not replaced; give the name that it leads to"
    elif not stat.S_ISREG(mode):
        problem = "is a device, FIFO or socket, and these are not replaced; give another name"
    elif not (mode & 0o222 and os.access(path, os.W_OK)):
        problem = "is read-only, and such files are not replaced; give another name"
    else:
        return
    raise MediaError(f"{shown(path)}: {problem}")


def _probe(path: Path) -> None:
    with _blaming(path), temporary_file(path.parent) as (file, _):
        file.write(bytes(_PROBE_BYTES))


def _no_room(error: OSError, unfinished: Path) -> OSError:
    """The same with how much there was of a file, and how much room there is."""
    written = format_size(unfinished.stat().st_size)
    free = format_size(shutil.disk_usage(unfinished.parent).free)
    return OSError(error.errno, f"takes more than {written}, {free} are free; make room")


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    """Errors of the operating system become one line about `path`."""
    if not is_possible_name(path):
        raise MediaError(f"{shown(path)}: no file can have this name; give another")
    try:
        yield
    except OSError as error:
        reason = f"{error.strerror or error}; choose another folder"
        with suppress(OSError):
            if not path.parent.is_dir():
                reason = f"there is no folder {shown(path.parent)}; create it or choose another"
        raise MediaError(f"{shown(path)}: cannot be written: {reason}") from error
