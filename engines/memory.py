"""Memory: what an engine takes for a graph, what this process holds, what the machine has left."""

import ctypes
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from keyvid.bundle.specs import GraphMemory

_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_FORGET_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Footprint:
    """What an engine makes of a graph's own needs, measured with the published U-Nets.

    Attributes:
        weights: copies of the weights; those that it had to cast count once more.
        values: of the values.
        keeps_scores: whether attention writes its scores to memory.
    """

    weights: float
    values: float
    keeps_scores: bool


# Engines that take the memory of the machine; on a GPU it is not this one that runs out.
_FOOTPRINTS = {
    "openvino": Footprint(1.1, 1.0, False),
    "openvino-bf16": Footprint(1.1, 1.0, False),  # as float32 at most
    "onnxruntime": Footprint(2.1, 3.5, True),  # by one figure: 24 GB, a branch of the generator
}


def engine_bytes(engine: str, graph: GraphMemory) -> int | None:
    """What the engine takes at most to load and run a graph; None if it runs elsewhere."""
    footprint = _FOOTPRINTS.get(engine)
    if footprint is None:
        return None
    values = graph.values + (graph.scores if footprint.keeps_scores else 0)
    return round(footprint.weights * graph.weights + graph.cast + footprint.values * values)


@contextmanager
def mapped_passing_by(folder: Path) -> Iterator[None]:
    """Keep files in `folder` that are read through a mapping from filling the memory meanwhile.

    Linux only: elsewhere they stay.
    """
    done = Event()

    def forget_again_and_again() -> None:
        while not done.wait(_FORGET_EVERY_SECONDS):
            forget_mapped(folder)

    thread = Thread(target=forget_again_and_again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        forget_mapped(folder)


def forget_mapped(folder: Path) -> None:
    """Give back the memory of files in `folder` that are mapped; what is needed is read anew."""
    for line in _read(_PROC / "self/maps").splitlines():
        addresses, access, *_, name = line.split(maxsplit=5)
        if access.startswith("r--") and Path(name).parent == folder:
            start, end = (int(address, 16) for address in addresses.split("-"))
            madvise = ctypes.CDLL(None).madvise
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def process_bytes(key: str = "VmRSS") -> int | None:
    """A size of this process: "VmRSS" resident now, "VmHWM" at most so far; None if not stated."""
    return _stated(_PROC / "self/status", rf"{key}:\s*(\d+) kB", 1024)


def available_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """What this process may still take without swapping; None where the system does not say.

    The least of what the machine has and what the control groups (version 2) of the process and
    those above them leave; file caches count as free.
    """
    rooms = [_stated(proc / "meminfo", r"MemAvailable:\s*(\d+) kB", 1024)]
    path = re.search(r"^0::/(.*)$", _read(proc / "self/cgroup"), re.MULTILINE)
    if path:
        group = cgroups / path[1]
        for folder in (group, *group.parents):
            rooms.append(_room(folder))
            if folder == cgroups:
                break
    known = [room for room in rooms if room is not None]
    return min(known, default=None)


def _room(group: Path) -> int | None:
    """What a control group leaves, None if it has no limit."""
    limit = _stated(group / "memory.max", r"^(\d+)$")
    used = _stated(group / "memory.current", r"^(\d+)$")
    if limit is None or used is None:
        return None
    cached = _stated(group / "memory.stat", r"^inactive_file (\d+)$") or 0
    return max(limit - used + cached, 0)


def _stated(file: Path, pattern: str, unit: int = 1) -> int | None:
    found = re.search(pattern, _read(file), re.MULTILINE)
    return int(found[1]) * unit if found else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
