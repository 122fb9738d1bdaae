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


def check_regular(path: Path, *, follow: bool) -> int:
    """Size in bytes of a regular file.

    Args:
        follow: whether it may be a link to one, as in the cache of the Hugging Face Hub. It could
            lead to any file of the user's: follow it only where the content is checked as well.

    Raises:
        BundleError: there is none.
    """
    try:
        status = path.stat(follow_symlinks=follow)
    except OSError as error:
        raise BundleError(f"{path}: {_reason(error)}; copy or export it again") from None
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path}: not a regular file; replace it by a copy of the file itself")
    return status.st_size


def check_size(path: Path, num_bytes: int, *, follow: bool) -> None:
    """Refuse a file that is not a regular one of that size, with a BundleError."""
    found = check_regular(path, follow=follow)
    if found != num_bytes:
        raise BundleError(
            f"{path}: {found} bytes, bundle.json says {num_bytes}; copy or export it again"
        )


def check_sha256(path: Path, sha256: str) -> None:
    """Refuse a file with another content, with a BundleError; each file is read once a process."""
    try:
        found = known_sha256(path)
    except OSError as error:
        raise BundleError(f"{path}: {_reason(error)}; check its rights") from None
    if found != sha256:
        raise BundleError(
            f"{path}: sha256 {found[:12]}..., bundle.json says {sha256[:12]}...; "
            "the file is damaged or changed, copy or export it again"
        )


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing from the bundle"
    return f"cannot be read: {error.strerror or error}"
