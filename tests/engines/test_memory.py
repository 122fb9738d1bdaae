"""What the system says about memory: of this process, of the machine, of control groups."""

import mmap
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from keyvid.engines import memory
from keyvid.engines.memory import (
    available_bytes,
    drop_mapped_pages,
    mapped_pages_dropped,
    peak_bytes,
    process_bytes,
)
from keyvid.errors import EngineError

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Folders like /proc and /sys/fs/cgroup: 8 GiB free, groups a/b (version 2) and c (1)."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroups"
    (proc / "self").mkdir(parents=True)
    (cgroups / "a" / "b").mkdir(parents=True)
    (cgroups / "memory" / "c").mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("9:cpu:/x:y\n4:hugetlb,memory:/c\n0::/a/b\n")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * GIB))
    return proc, cgroups


def limit(group: Path, most: str, used: int, cached: int) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_the_machine_is_the_limit_where_no_group_is(machine, tmp_path):
    assert available_bytes(*machine) == 8 * GIB
    assert available_bytes(tmp_path, tmp_path) == 8 * GIB  # not Linux


@pytest.mark.parametrize("folder", ["a/b", "a", "."])
def test_the_narrowest_group_counts(machine, folder):
    proc, cgroups = machine
    limit(cgroups / "a", "max", 3 * GIB, 0)
    limit(cgroups / folder, str(4 * GIB), 3 * GIB, GIB)
    assert available_bytes(proc, cgroups) == 2 * GIB  # file caches are given up


@pytest.mark.parametrize("folder", ["c", "."])
def test_groups_of_version_1_count(machine, folder):
    proc, cgroups = machine
    group = cgroups / "memory" / folder
    (group / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    (group / "memory.usage_in_bytes").write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"inactive_file 7\ntotal_inactive_file {GIB}\n")
    assert available_bytes(proc, cgroups) == 2 * GIB


def test_a_full_group_leaves_nothing(machine):
    proc, cgroups = machine
    limit(cgroups / "a", str(GIB), 2 * GIB, 0)
    assert available_bytes(proc, cgroups) == 0


def test_this_process():
    assert 1e6 < process_bytes() <= peak_bytes() < 1e12
    assert available_bytes() > 1e6


def test_the_peak_is_remembered():
    code = """
from keyvid.engines.memory import peak_bytes, process_bytes
held = bytearray(200 << 20)
held[::4096] = b"x" * len(held[::4096])  # all pages
del held
print(process_bytes(), peak_bytes(), open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    now, peak, kibibytes = map(int, run.stdout.split())
    assert now < 200 << 20 < peak
    assert peak == pytest.approx(1024 * kibibytes, abs=100_000)


def test_the_peak_is_that_of_this_process_alone():
    """`ru_maxrss` of a program begins with the size of the one that started it."""
    held = bytearray(200 << 20)
    held[::4096] = b"x" * len(held[::4096])  # all pages
    code = "from keyvid.engines.memory import peak_bytes; print(peak_bytes())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < len(held) < peak_bytes()


def held_of_files() -> int:
    return psutil.Process().memory_info().shared


def test_mapped_files_are_dropped_and_read_again(tmp_path):
    size = 64 << 20
    content = bytes(range(256)) * (size // 256)
    (tmp_path / "weights").write_bytes(content)
    with (tmp_path / "weights").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    before = held_of_files()
    assert mapped[:] == content
    held = held_of_files()
    assert held - before > size // 2
    drop_mapped_pages([tmp_path / "other"])
    assert held_of_files() >= held
    drop_mapped_pages([tmp_path / "weights"])
    assert held - held_of_files() > size // 2
    assert mapped[:] == content
    with mapped_pages_dropped([tmp_path / "weights"]):
        assert mapped[:] == content
    assert held - held_of_files() > size // 2


def test_what_ulimit_leaves_counts(machine, monkeypatch):
    held = psutil.Process().memory_info().vms
    monkeypatch.setattr(resource, "getrlimit", lambda _: (held + GIB, held + GIB))
    assert available_bytes(*machine) == pytest.approx(GIB, rel=0.1)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (held // 2, held // 2))
    assert available_bytes(*machine) == 0


def test_a_backend_without_memory_is_told_apart_from_a_bundle_that_lies(monkeypatch):
    monkeypatch.setattr(memory, "address_space_left", lambda: 5 * 10**6)
    message = r"^not enough memory: ulimit -v leaves 5 MB to this"
    with pytest.raises(EngineError, match=message), memory.memory_allowed(10**6):
        raise RuntimeError("std::bad_alloc")
