"""Compiled graphs ("plans") on disk: made once, found again, never trusted blindly.

A plan of TensorRT is native code for one GPU, one of a CPU's engine what it made of a graph for one
processor. It is kept in a folder that only its user can write, under a name that hashes everything
it depends on, beside a manifest with its size and sha256. What is not exactly as the manifest says
counts as missing and is built again.

    FOLDER/KEY/plan, FOLDER/KEY/manifest.json    an entry, renamed into place when complete
    FOLDER/.KEY.XXXXXXXX/                        an entry that is being made
    FOLDER/lock                                  held while one is made
"""

import hashlib
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from keyvid.bundle.strict_json import from_json, parse_json
from keyvid.engines.own_files import check_own, read_own
from keyvid.errors import EngineError
from keyvid.file_safety import sync
from keyvid.folders import cache_folder

SCHEMA = 1
_PLAN = "plan"
_MANIFEST = "manifest.json"
_LOCK = "lock"
_KEY = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.[0-9a-f]{64}\.[0-9a-f]{8}")
_RETRY_SECONDS = 0.05


def plan_folder() -> Path:
    """Where plans of TensorRT are kept if nothing else is said."""
    return cache_folder("plans")


def graph_folder() -> Path:
    """Where graphs that a CPU's engine compiled are kept, see `keyvid.engines.kept_graph`."""
    return cache_folder("graphs")


def key_of(ingredients: dict[str, str]) -> str:
    """sha256 (hex) over all that a plan depends on."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """Manifest of a plan.

    Attributes:
        bytes, sha256: of the plan.
        created: UTC time, ISO 8601.
        ingredients: what the key is made of.
        record: what was seen while it was built, such as seconds and bytes of memory.
    """

    bytes: int
    sha256: str
    created: str
    ingredients: dict[str, str]
    record: dict[str, float]


class Cache:
    """The plans in one folder; several processes may use it, one at a time makes a plan.

    Raises:
        EngineError: the folder is not the user's own, or open to others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with self._explained():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            status = self.folder.lstat()
        check_own(self.folder, status)
        if not stat.S_ISDIR(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o077:
            raise EngineError(
                f"{self.folder}: {stat.filemode(status.st_mode)}, want drwx------, a folder that "
                "is open to its owner only, for plans are native code; chmod 700 it or remove it"
            )

    def get(self, ingredients: dict[str, str]) -> bytes | None:
        """The plan of these ingredients, or None if there is none that is whole and unchanged.

        The file is read once, so that what was checked is what is given.

        Raises:
            EngineError: the entry is a link, not the user's own, or others can write to it.
        """
        key = key_of(ingredients)
        with self._explained():
            entry = self._entry(key)
            if entry is None or entry.ingredients != ingredients:
                return None
            plan = read_own(self.folder / key / _PLAN)
        if plan is None or len(plan) != entry.bytes:
            return None
        if hashlib.sha256(plan).hexdigest() != entry.sha256:
            return None
        with suppress(OSError):  # of a folder that cannot be written, nothing is removed either
            os.utime(self.folder / key)  # when it was used, see `_shrink`
        return plan

    def record(self, ingredients: dict[str, str]) -> dict[str, float]:
        """What was seen while the plan of these ingredients was built."""
        entry = self._entry(key_of(ingredients))
        return entry.record if entry else {}

    def get_or_make(
        self, ingredients: dict[str, str], make: Callable[[Path, int], dict[str, float]]
    ) -> bytes:
        """The plan of these ingredients, made if there is none.

        Args:
            make: takes the file to write the plan to, and the descriptor of the lock, which a
                process that may outlive this one must inherit; gives the record of the build.
        """
        if (plan := self.get(ingredients)) is not None:
            return plan
        with self._locked() as lock:
            if (plan := self.get(ingredients)) is not None:  # made while this process waited
                return plan
            return self._make(ingredients, lambda path: make(path, lock))

    def put(
        self,
        ingredients: dict[str, str],
        content: bytes,
        *,
        wait: float = math.inf,
        most_bytes: int | None = None,
    ) -> None:
        """Keep `content` as the plan of these ingredients, in place of what is there.

        Args:
            wait: seconds to wait while another plan is being made.
            most_bytes: what all plans may take; those that were not used for longest go.
        Raises:
            EngineError: a plan is still being made after `wait` seconds.
        """

        def write(path: Path) -> dict[str, float]:
            path.write_bytes(content)
            return {}

        with self._locked(wait=wait):
            self._make(ingredients, write)
            if most_bytes is not None:
                self._shrink(most_bytes)

    def discard(self, ingredients: dict[str, str]) -> None:
        """Remove the plan of these ingredients."""
        with self._locked(), self._explained():
            _remove(self.folder / key_of(ingredients))

    def entries(self) -> Iterator[tuple[str, Entry | None]]:
        """Key and manifest of each plan; None for a plan that would not be used."""
        for path in sorted(self.folder.iterdir()):
            if not _KEY.fullmatch(path.name):
                continue
            try:
                entry = self._entry(path.name)
                whole = entry and (path / _PLAN).lstat().st_size == entry.bytes
            except (OSError, EngineError):
                entry, whole = None, False
            yield path.name, entry if whole else None

    def clear(self) -> int:
        """Remove all plans and what is left of unfinished ones; gives the number of plans.

        Raises:
            EngineError: a plan is being made.
        """
        with self._locked(wait=0), self._explained():
            plans = [path for path in self.folder.iterdir() if _KEY.fullmatch(path.name)]
            for path in plans:
                _remove(path)
            self._remove_unfinished()
        return len(plans)

    def _entry(self, key: str) -> Entry | None:
        """Manifest of a plan, None where there is no valid one."""
        text = read_own(self.folder / key / _MANIFEST)
        try:
            content = parse_json(text or b"")
            if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
                return None
            entry = from_json(Entry, content)
        except ValueError:
            return None
        return entry if key_of(entry.ingredients) == key else None

    def _make(
        self, ingredients: dict[str, str], write: Callable[[Path], dict[str, float]]
    ) -> bytes:
        """Write an entry and rename it into place; the lock is held.

        Whenever it is killed, there is the old entry, none, or the new one.
        """
        key = key_of(ingredients)
        folder = self.folder / f".{key}.{token_hex(4)}"
        with self._explained():
            self._remove_unfinished()
            folder.mkdir(mode=0o700)
            try:
                record = write(folder / _PLAN)
                plan = (folder / _PLAN).read_bytes()
                now = datetime.now(UTC).isoformat(timespec="seconds")
                entry = Entry(len(plan), hashlib.sha256(plan).hexdigest(), now, ingredients, record)
                content = {"schema": SCHEMA, **asdict(entry)}
                (folder / _MANIFEST).write_text(json.dumps(content, indent=1) + "\n")
                for path in (folder / _PLAN, folder / _MANIFEST):
                    path.chmod(0o600)
                    sync(path)
                sync(folder)
                _remove(self.folder / key)
                folder.rename(self.folder / key)
                sync(self.folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return plan

    def _shrink(self, most_bytes: int) -> None:
        """Remove what was not used for longest, until all takes at most `most_bytes`."""
        used = {
            path: path.stat().st_mtime_ns
            for path in self.folder.iterdir()
            if _KEY.fullmatch(path.name)
        }
        total = 0
        for path in sorted(used, key=used.__getitem__, reverse=True):
            total += sum(file.stat().st_size for file in path.iterdir())
            if total > most_bytes:
                _remove(path)

    def _remove_unfinished(self) -> None:
        """Remove what killed processes left; the lock is held, so that none is at work."""
        for path in self.folder.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                _remove(path)

    @contextmanager
    def _locked(self, *, wait: float = math.inf) -> Iterator[int]:
        """Hold the lock, as a descriptor; the system frees it when all its holders are dead."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with self._explained():
            lock = os.open(self.folder / _LOCK, flags, 0o600)
        try:
            _take(lock, wait)
            yield lock
        except BlockingIOError:
            raise EngineError(f"{self.folder}: a plan is being built; try again later") from None
        finally:
            os.close(lock)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What the system refuses, as an EngineError."""
        try:
            yield
        except OSError as error:
            path = error.filename or self.folder
            raise EngineError(
                f"{path}: {error.strerror}; plans need a folder of the user's own with free space"
            ) from error


def _take(lock: int, wait: float) -> None:
    """Lock a file, or raise BlockingIOError if another holds it for `wait` seconds."""
    import fcntl  # not on Windows, which commands refuse once they are imported

    if wait == math.inf:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_RETRY_SECONDS)


def _remove(path: Path) -> None:
    """Remove a folder or file if it is there; of a link, only the link."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
