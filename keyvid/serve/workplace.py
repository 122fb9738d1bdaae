"""The one folder in which a server keeps files; it is gone when the server is."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyvid.file_safety import temporary_folder

_PREFIX = "keyvid-serve-"


@contextmanager
def workplace(parent: Path | None = None) -> Iterator[Path]:
    """A new folder for this process alone, deleted at the end.

    Temporary files of all libraries lie in it meanwhile. Folders of servers that were killed are
    deleted first.

    Args:
        parent: where, None for the system's folder for temporary files.
    """
    with temporary_folder(parent or Path(tempfile.gettempdir()), _PREFIX) as folder:
        before = tempfile.tempdir
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before
