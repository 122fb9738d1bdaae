"""What a user gives to be read: a file's name, an open file, or standard input."""

import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from keyvid.errors import MediaError

FileSource = str | os.PathLike[str] | bytes | IO[bytes]
STANDARD_STREAM = "-"

_LONGEST_NAME = 200  # characters of it in a message


@contextmanager
def open_source(source: object, kind: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The name of a source in messages, and the open file.

    The file is unbuffered, so that libraries can read it by its descriptor, too.

    Args:
        source: the name of a regular file, "-" for standard input, the bytes of a file, or an
            object with `read`, which is read from where it stands to its end.
        kind: what it should be, such as "picture", for messages.
    Raises:
        MediaError: there is no such file, it cannot be opened or read, or it is empty.
    """
    if source == STANDARD_STREAM:
        source = sys.stdin.buffer
    name = shown(source) if isinstance(source, str | os.PathLike) else f"the {kind}"
    try:
        with _opened(source, name, kind) as file:
            if not os.fstat(file.fileno()).st_size:
                raise MediaError(f"{name}: is empty (0 bytes); give a whole file")
            yield name, file
    except OSError as error:
        raise MediaError(f"{name}: {error.strerror or error}; check the name") from error


@contextmanager
def _opened(source: Any, name: str, kind: str) -> Iterator[IO[bytes]]:
    if isinstance(source, str | os.PathLike):
        if not is_possible_name(source):
            raise MediaError(f"{name}: no file can have this name; check it")
        if not stat.S_ISREG(os.stat(source).st_mode):  # opening a FIFO would wait for its writer
            raise MediaError(f"{name}: is not a file; give the name of one")
        with open(source, "rb", buffering=0) as file:
            yield file
    elif isinstance(source, bytes | bytearray | memoryview):
        with tempfile.TemporaryFile(buffering=0) as copy:
            copy.write(source)
            copy.seek(0)
            yield copy
    elif callable(getattr(source, "read", None)):
        with tempfile.TemporaryFile(buffering=0) as copy:
            try:
                shutil.copyfileobj(source, copy)
            except (TypeError, ValueError) as error:  # a text file; a closed one
                raise MediaError(
                    f"{name}: cannot be read ({error}); give a file that is open for reading bytes"
                ) from error
            copy.seek(0)
            yield copy
    else:
        raise MediaError(f"{name} is a {type(source).__name__}; give the name of a file")


def is_possible_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file could be called so: no NUL, and no letters without bytes."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def shown(path: object) -> str:
    """A path as a message can hold it: one line, not endless, whatever its bytes are."""
    text = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in str(path)
    )
    half = _LONGEST_NAME // 2
    return text if len(text) <= _LONGEST_NAME else f"{text[:half]}...{text[-half:]}"


def decoder_message(error: Exception) -> str:
    """What a decoder says, on one line and without the file's name before it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = re.sub(r"<_io\.[^<>]*>", "it", text)  # a file that has no name
    return shown(" ".join(text.split()))
