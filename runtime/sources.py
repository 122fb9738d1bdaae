"""Files that a user names: looked at before a decoder is, and what decoders say of them."""

import stat
from pathlib import Path

from keyvid.errors import MediaError


def check_file(path: Path) -> None:
    """Refuse what is not a file with something in it."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror}; check the name") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: is not a file; give the name of one")
    if not status.st_size:
        raise MediaError(f"{path}: is empty (0 bytes); give a whole file")


def decoder_message(path: Path, error: Exception) -> str:
    """What a decoder says, on one line and without the path that stands before it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.replace(repr(str(path)), "").split())
