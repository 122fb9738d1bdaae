"""The processor: its name, its features, and the cores that this process may use."""

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def name() -> str:
    """What its maker calls it, where the system says that."""
    return _fields().get("model name") or platform.processor() or platform.machine()


def features() -> tuple[str, ...]:
    """Its instruction sets as Linux names them; none where the system does not say."""
    return tuple((_fields().get("flags") or _fields().get("Features") or "").split())


def num_cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def fingerprint() -> str:
    """A hash of what compiled code depends on: its name, its features, and what limits them."""
    limits = [f"{limit}={os.environ[limit]}" for limit in _LIMITS if limit in os.environ]
    facts = [platform.system(), platform.machine(), name(), *features(), *limits]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


@cache
def _fields() -> dict[str, str]:
    """The last core's lines of /proc/cpuinfo by their names; none where there is no such file."""
    if not _CPUINFO.exists():
        return {}
    lines = (line.partition(":") for line in _CPUINFO.read_text().splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
