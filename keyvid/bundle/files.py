"""Files of a bundle: regular, and of the stated size and sha256."""

import hashlib
import stat
from pathlib import Path

from keyvid.errors import BundleError

# (path, size, modification time in ns) of files that this process has hashed.
_known: dict[tuple[Path, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """sha256 of the file's content, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """sha256 of a file, hex; while it stays the same it is read once a process."""
    status = path.stat()
    key = (path.resolve(), status.st_size, status.st_mtime_ns)
    if key not in _known:
        _known[key] = sha256_of(path)
    return _known[key]


def check_regular(path: Path) -> int:
    """Size in bytes of a regular file; links could lead out of the folder and are refused.

    Raises:
        BundleError: there is none.
    """
    try:
        status = path.lstat()
    except OSError:
        raise BundleError(f"{path}: missing from the bundle; copy or export it again") from None
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: not a regular file; replace it by a copy of the file itself")
    return status.st_size


def check_size(path: Path, num_bytes: int) -> None:
    """Refuse a file that is not a regular one of that size, with a BundleError."""
    found = check_regular(path)
    if found != num_bytes:
        raise BundleError(
            f"{path}: {found} bytes, bundle.json says {num_bytes}; copy or export it again"
        )


def check_sha256(path: Path, sha256: str) -> None:
    """Refuse a file with another content, with a BundleError; each file is read once a process."""
    try:
        found = known_sha256(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}; check its rights") from None
    if found != sha256:
        raise BundleError(
            f"{path}: sha256 {found[:12]}..., bundle.json says {sha256[:12]}...; "
            "the file is damaged or changed, copy or export it again"
        )
