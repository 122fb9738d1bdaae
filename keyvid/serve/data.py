"""The folder in which a server keeps what must outlive it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from keyvid.errors import SettingsError
from keyvid.file_safety import locked_folder

JOBS = "jobs"
_STORE = "store.sqlite"


@contextmanager
def data_folder(chosen: Path | None, port: int) -> Iterator[Path]:
    """The folder of a server alone, made where there is none.

    Args:
        chosen: None for one of the user's own; servers on different ports have different ones.
    Raises:
        SettingsError: it cannot be used, or another server uses it.
    """
    folder = chosen or platformdirs.user_state_path("keyvid", appauthor=False) / f"serve-{port}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / JOBS).mkdir(exist_ok=True)
        with locked_folder(folder):
            yield folder.absolute()
    except BlockingIOError:
        raise SettingsError(
            f"{folder}: another server keeps its jobs here; choose another folder with --data"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"{folder}: jobs cannot be kept here: {error.strerror or error}; "
            "choose another folder with --data"
        ) from error


def default_store(folder: Path) -> str:
    """The address of the store in a server's folder."""
    return f"sqlite:///{folder / _STORE}"
