"""Files that only the user can have written: nobody else's code is to be run."""

import errno
import os
import stat
from pathlib import Path

from keyvid.errors import EngineError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def read_own(path: Path) -> bytes | None:
    """Content of FOLDER/NAME, None if it is missing; neither may be a link or another user's."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path.parent, error) from None
    try:
        check_own(path.parent, os.fstat(folder))
        file = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error) from None
    finally:
        os.close(folder)
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(file)
        check_own(path, status)
        if not stat.S_ISREG(status.st_mode):
            raise EngineError(f"{path}: not a regular file; remove it")
        return opened.read()


def _refused(path: Path, error: OSError) -> EngineError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return EngineError(f"{path}: a link or no folder, and plans are native code; remove it")
    return EngineError(f"{path}: {error.strerror}; remove it")


def check_own(path: Path, status: os.stat_result) -> None:
    """Refuse what another user owns or can write to, with an EngineError."""
    if status.st_uid != os.geteuid():
        raise EngineError(
            f"{path}: belongs to user {status.st_uid}, not to {os.geteuid()} who runs this, and "
            "plans are native code; remove it"
        )
    if status.st_mode & _OTHERS_WRITE and not stat.S_ISLNK(status.st_mode):
        raise EngineError(
            f"{path}: others can write to it ({stat.filemode(status.st_mode)}), and plans are "
            "native code; remove it"
        )
