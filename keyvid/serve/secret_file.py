"""Files with secrets of a server, which only its own user can read."""

import os
from collections.abc import Callable
from pathlib import Path

from keyvid.file_safety import temporary_file


def secret_in(file: Path, new: Callable[[], bytes]) -> bytes:
    """What a file holds, made where there is none.

    Args:
        new: gives the content of a new one.
    Raises:
        OSError: it cannot be read or written.
    """
    if not file.exists():
        with temporary_file(file.parent) as (opened, temporary):
            os.fchmod(opened.fileno(), 0o600)
            opened.write(new())
            opened.close()
            temporary.rename(file)
    return file.read_bytes()
