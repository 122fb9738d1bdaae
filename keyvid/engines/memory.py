"""Memory: what this process takes, and what the machine has left."""

import ctypes
import mmap
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

import psutil

from keyvid.errors import EngineError
from keyvid.sizes import format_size

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_DROP_EVERY_SECONDS = 0.1
# What other threads take meanwhile and backends once, and the stack of each thread they start.
_ROOM_BYTES, _THREAD_BYTES = 512 * 2**20, 16 * 2**20
_NO_MEMORY = re.compile(r"bad_alloc|(failed to|could not) allocate", re.IGNORECASE)


@contextmanager
def mapped_pages_dropped(files: Collection[Path]) -> Iterator[None]:
    """Keep files that are read through a mapping from filling the memory meanwhile.

    Linux only: elsewhere they stay.

    Args:
        files: absolute, without links.
    """
    done = Event()

    def drop_until_done() -> None:
        # Where memory is short, even a file may not open; then they stay.
        with suppress(OSError, MemoryError, RuntimeError):
            while not done.wait(_DROP_EVERY_SECONDS):
                drop_mapped_pages(files)

    thread = Thread(target=drop_until_done, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        drop_mapped_pages(files)


def drop_mapped_pages(files: Collection[Path]) -> None:
    """Give back the memory of files that are mapped; what is needed of them is read anew."""
    names = {str(file) for file in files}
    for line in _read(_PROC / "self/maps").splitlines():
        addresses, access, *_, name = line.split(maxsplit=5)
        if access.startswith("r--") and name in names:
            start, end = (int(address, 16) for address in addresses.split("-"))
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


class MemoryExceededError(Exception):
    """More memory was asked for than was allowed."""


class _Allowances:
    """What is allowed to those who work at present, kept by the system's limit on written memory.

    The limit is the process's: it holds for all threads together.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._given: list[int] = []
        self._limits = (-1, -1)

    def enter(self, allowed: int) -> None:
        import resource  # not on Windows, where it is not asked for

        with self._lock:
            if not self._given:
                self._limits = resource.getrlimit(resource.RLIMIT_DATA)
            self._given.append(allowed)
            self._apply()

    def leave(self, allowed: int) -> None:
        with self._lock:
            self._given.remove(allowed)
            self._apply()

    def _apply(self) -> None:
        import resource

        soft, hard = self._limits
        if self._given and (held := _stated(_PROC / "self/status", r"VmData:\s*(\d+) kB", 1024)):
            wanted = held + sum(self._given)
            soft = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


_allowances = _Allowances()


@contextmanager
def memory_allowed(expected: int | None) -> Iterator[None]:
    """Let a backend take what is expected, half as much again and some room, but not any amount.

    Linux only: elsewhere, and where None is expected, there is no limit.

    Args:
        expected: bytes.
    Raises:
        MemoryExceededError: it asked for more.
    """
    if expected is None or sys.platform != "linux":
        yield
        return
    threads = (psutil.cpu_count() or 1) * _THREAD_BYTES
    allowed = round(1.5 * expected) + _ROOM_BYTES + threads
    _allowances.enter(allowed)
    try:
        yield
    except Exception as error:  # backends raise what they like
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            if (left := address_space_left()) is not None and left < allowed:
                raise EngineError(
                    f"not enough memory: ulimit -v leaves {format_size(left)} to this process, and "
                    f"{format_size(allowed)} may be needed; raise it"
                ) from error
            raise MemoryExceededError(str(error)) from error
        raise
    finally:
        _allowances.leave(allowed)


def process_bytes() -> int:
    """What this process holds in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak_bytes() -> int:
    """The most that this process has held in memory so far.

    On Linux not from `ru_maxrss`, which begins with the size of the process that started this one.
    """
    if (peak := _stated(_PROC / "self/status", r"VmHWM:\s*(\d+) kB", 1024)) is not None:
        return peak
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes there
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))  # the former on Windows


def address_space_left() -> int | None:
    """What `ulimit -v` leaves to this process, None where it sets no limit."""
    if sys.platform == "win32":
        return None
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    return max(limit - int(psutil.Process().memory_info().vms), 0)


def available_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """What this process may still take without swapping.

    The least of what the machine has, what the control groups of the process and those above them
    leave, and what `ulimit -v` leaves; file caches count as free.
    """
    rooms = [psutil.virtual_memory().available]
    if (left := address_space_left()) is not None:
        rooms.append(left)
    for line in _read(proc / "self/cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if not controllers:
            rooms += _rooms(cgroups, name, _VERSION_2)
        elif "memory" in controllers.split(","):
            rooms += _rooms(cgroups / "memory", name, _VERSION_1)
    return min(rooms)


@dataclass(frozen=True)
class _GroupFiles:
    """Files of a control group, and the key of what it could give up in the last one."""

    limit: str
    used: str
    cached: str


_VERSION_1 = _GroupFiles("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _GroupFiles("memory.max", "memory.current", "inactive_file")


def _rooms(root: Path, name: str, files: _GroupFiles) -> Iterator[int]:
    """What the control group of that name and those above it leave, where they have a limit."""
    group = root / name.lstrip("/")
    for folder in (group, *group.parents):
        limit = _stated(folder / files.limit, r"^(\d+)$")
        used = _stated(folder / files.used, r"^(\d+)$")
        if limit is not None and used is not None:
            cached = _stated(folder / "memory.stat", rf"^{files.cached} (\d+)$") or 0
            yield max(limit - used + cached, 0)
        if folder == root:
            break


def _stated(file: Path, pattern: str, unit: int = 1) -> int | None:
    found = re.search(pattern, _read(file), re.MULTILINE)
    return int(found[1]) * unit if found else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
