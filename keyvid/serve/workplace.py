"""The one folder in which a server keeps files; it is gone when the server is."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "keyvid-serve-"


@contextmanager
def workplace(parent: Path | None = None) -> Iterator[Path]:
    """A new folder for this process alone, deleted at the end.

    Temporary files of all libraries lie in it meanwhile. Folders of servers that were killed are
    deleted first: nobody holds their lock.

    Args:
        parent: where, None for the system's folder for temporary files.
    """
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    descriptor = os.open(folder, os.O_RDONLY)
    before = tempfile.tempdir
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        tempfile.tempdir = str(folder)
        yield folder
    finally:
        tempfile.tempdir = before
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, or of another user
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(descriptor)
