"""Files that are whole or not there: locks, write and rename, and what killed processes have left.

A lock is `flock`, which the system frees when its holder is gone, however it went. What is being
written has a temporary name and is locked; what has such a name and no lock is swept away.
"""

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

# What the system says where a file can get no larger: a full disk, a quota, a limit of the process.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_TEMPORARY = ".keyvid-"
_LONGEST_NAME = 255  # bytes, on nearly all file systems


def lock(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file or folder for as long as it is open.

    Raises:
        BlockingIOError: another process has it, and this one is not to wait.
        OSError: the file system knows no locks.
    """
    import fcntl  # not on Windows, which commands refuse once they are imported

    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextmanager
def locked_folder(folder: Path, *, wait: bool = False) -> Iterator[int]:
    """Keep other processes out of a folder that is there; gives its descriptor.

    Raises:
        BlockingIOError, OSError: as `lock`.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, wait=wait)
        yield descriptor
    finally:
        os.close(descriptor)


def beside(path: Path, before: str, after: str) -> Path:
    """What belongs to `path`: beside it, its name between `before` and `after`, or a hash of it."""
    name = f"{before}{path.name}{after}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{before}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}{after}"
    return path.with_name(name)


def open_regular(path: Path, flags: int) -> int:
    """Descriptor of a regular file that has no other name, not opened through a link.

    What came from a stranger may hold links: whoever writes into such a file would write elsewhere.

    Args:
        flags: as of `os.open`; a file that is made gets the usual rights.
    Raises:
        OSError: there is none, or something else has that name.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "is a link; remove it") from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file of one name; remove it")
    return descriptor


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name never holds part of the content, whatever interrupts it."""
    with temporary_file(path.parent) as (file, temporary):
        file.write(content)
        file.close()  # a full disk may show only here
        temporary.replace(path)


def replace_own(path: Path, content: bytes) -> None:
    """As `write_whole`, of a file that this process alone writes, again and again."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)


def sync(path: Path) -> None:
    """Bring a file or folder to the disk, so that a crash cannot leave one without the other."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open file in `folder` that is gone afterwards, unless it was renamed."""
    sweep(folder, _TEMPORARY)
    temporary = folder / f"{_TEMPORARY}{secrets.token_hex(8)}.tmp"
    with open(temporary, "xb") as file:
        _say_it_is_in_use(file.fileno())
        try:
            yield file, temporary
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(parent: Path, prefix: str = _TEMPORARY) -> Iterator[Path]:
    """A new folder in `parent` that is gone afterwards, unless it was renamed.

    Args:
        prefix: of its name; others of the same kind whose process was killed are removed first.
    """
    sweep(parent, prefix)
    folder = parent / f"{prefix}{secrets.token_hex(8)}.tmp"
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _say_it_is_in_use(descriptor)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, prefix: str) -> None:
    """Remove temporary files and folders whose process was killed: nobody holds their lock."""
    for left in folder.glob(f"{prefix}*.tmp"):
        with suppress(OSError):  # it is in use, or of another user
            descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                lock(descriptor)
                if left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink()
            finally:
                os.close(descriptor)


def _say_it_is_in_use(descriptor: int) -> None:
    with suppress(OSError):  # a file system without locks, where nothing is swept either
        lock(descriptor)
