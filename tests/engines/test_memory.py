"""What Linux says about memory: of this process, of the machine, of control groups."""

import mmap
from pathlib import Path

import pytest

from keyvid.bundle.specs import GraphMemory
from keyvid.engines.memory import (
    available_bytes,
    engine_bytes,
    forget_mapped,
    mapped_passing_by,
    process_bytes,
)

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path):
    """Folders like /proc and /sys/fs/cgroup: 8 GiB free, the process in the group a/b."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroups"
    (proc / "self").mkdir(parents=True)
    (cgroups / "a" / "b").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    (proc / "self" / "cgroup").write_text("4:memory:/old\n0::/a/b\n")
    return proc, cgroups


def limit(group: Path, most: str, used: int, cached: int) -> None:
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_the_machine_is_the_limit_where_no_group_is(machine):
    assert available_bytes(*machine) == 8 * GIB


@pytest.mark.parametrize("folder", ["a/b", "a", "."])
def test_the_narrowest_group_counts(machine, folder):
    proc, cgroups = machine
    limit(cgroups / "a", "max", 3 * GIB, 0)
    limit(cgroups / folder, str(4 * GIB), 3 * GIB, GIB)
    assert available_bytes(proc, cgroups) == 2 * GIB  # file caches are given up


def test_a_full_group_leaves_nothing(machine):
    proc, cgroups = machine
    limit(cgroups / "a", str(GIB), 2 * GIB, 0)
    assert available_bytes(proc, cgroups) == 0


def test_unknown_is_none(tmp_path):
    assert available_bytes(tmp_path, tmp_path) is None


def test_this_process():
    resident, most = process_bytes(), process_bytes("VmHWM")
    assert resident is not None
    assert most is not None
    assert 1e6 < resident <= most < 1e12
    assert process_bytes("VmNothing") is None


def test_mapped_files_are_forgotten_and_found_again(tmp_path):
    size = 64 << 20
    content = bytes(range(256)) * (size // 256)
    (tmp_path / "weights").write_bytes(content)
    with (tmp_path / "weights").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    before = process_bytes("RssFile")
    assert mapped[:] == content
    held = process_bytes("RssFile")
    assert held - before > size // 2
    forget_mapped(tmp_path / "other")
    assert process_bytes("RssFile") >= held
    forget_mapped(tmp_path)
    assert held - process_bytes("RssFile") > size // 2
    assert mapped[:] == content
    with mapped_passing_by(tmp_path):
        assert mapped[:] == content
    assert held - process_bytes("RssFile") > size // 2


def test_what_engines_take():
    stored = GraphMemory(weights=1000, cast=0, values=100, scores=500)
    cast = GraphMemory(weights=1000, cast=1000, values=100, scores=500)
    assert engine_bytes("openvino", stored) == 1100 + 100
    assert engine_bytes("openvino", cast) == 1100 + 1000 + 100
    assert engine_bytes("onnxruntime", stored) == 2100 + 3.5 * 600  # keeps the scores
    assert engine_bytes("tensorrt", stored) is None  # not this memory
