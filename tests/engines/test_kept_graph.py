"""Graphs that are kept compiled: the same numbers as before, or compiled again."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.bundle.specs import FileSpec
from keyvid.engines import cache as cache_module
from keyvid.engines import kept_graph, openvino_engine, processor
from keyvid.engines.cache import Cache, graph_folder
from keyvid.engines.engine import open_engine


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return graph_folder()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the graphs that OpenVINO has to compile."""
    names: list[str] = []
    compile_graph = openvino_engine._compile

    def note(spec: object, path: Path, settings: object) -> object:
        names.append(path.name)
        return compile_graph(spec, path, settings)

    monkeypatch.setattr(openvino_engine, "_compile", note)
    return names


def outcome(bundle: Bundle, affine: SimpleNamespace, threads: int | None = 1) -> np.ndarray:
    """What a newly opened engine gives."""
    engine = open_engine(bundle, "affine", engine="openvino", threads=threads)
    try:
        return np.asarray(engine(**affine.draw(3))["y"])
    finally:
        engine.close()


@pytest.fixture
def right(affine_bundle: Bundle, affine: SimpleNamespace, compiled: list[str]) -> np.ndarray:
    """The outcome without a cache; afterwards the graph is kept."""
    first = outcome(affine_bundle, affine)
    np.testing.assert_allclose(first, affine.expected(**affine.draw(3)), atol=1e-5)
    assert compiled == ["affine.onnx"]
    compiled.clear()
    return first


def entries() -> list[Path]:
    return [path for path in graph_folder().iterdir() if path.is_dir()]


def test_a_graph_is_compiled_once(
    affine_bundle: Bundle, affine: SimpleNamespace, right: np.ndarray, compiled: list[str]
) -> None:
    np.testing.assert_array_equal(outcome(affine_bundle, affine), right)
    assert compiled == []


@pytest.mark.parametrize("part", ["plan", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_damage(
    affine_bundle: Bundle,
    affine: SimpleNamespace,
    right: np.ndarray,
    compiled: list[str],
    part: str,
    damage: str,
) -> None:
    (entry,) = entries()
    content = (entry / part).read_bytes()
    middle = len(content) // 2
    changed = {
        "flip": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "truncate": content[:middle],
        "empty": b"",
    }
    (entry / part).unlink()
    if damage in changed:
        (entry / part).write_bytes(changed[damage])
    np.testing.assert_array_equal(outcome(affine_bundle, affine), right)
    assert compiled == ["affine.onnx"]
    np.testing.assert_array_equal(outcome(affine_bundle, affine), right)
    assert compiled == ["affine.onnx"], "it was kept again"


def test_what_openvino_refuses_is_compiled_again(
    affine_bundle: Bundle, affine: SimpleNamespace, right: np.ndarray, compiled: list[str]
) -> None:
    cache = Cache(graph_folder())
    ((_, entry),) = cache.entries()
    assert entry is not None
    for content in (b"", b"[]\n", b'[["x"], ["y"]]\nnothing of OpenVINO'):
        cache.put(entry.ingredients, content)
        np.testing.assert_array_equal(outcome(affine_bundle, affine), right)
    assert compiled == ["affine.onnx"] * 3


def test_other_weights_under_the_same_name(
    affine_bundle: Bundle, affine: SimpleNamespace, right: np.ndarray, compiled: list[str]
) -> None:
    (name,) = (name for name in affine_bundle.files if not name.endswith(".onnx"))
    path = affine_bundle.path / name
    content = bytearray(path.read_bytes())
    status = path.stat()
    numbers = np.frombuffer(content, "<f4", offset=len(content) % 4)
    path.write_bytes(bytes(content[: len(content) % 4]) + (2 * numbers).tobytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    files = affine_bundle.files | {name: FileSpec.of(path)}
    write_manifest(affine_bundle.path, replace(affine_bundle, files=files))
    other = outcome(Bundle.load(affine_bundle.path), affine)
    assert compiled == ["affine.onnx"]
    assert np.abs(other - right).max() > 0.01


def test_all_that_it_depends_on_counts(
    affine_bundle: Bundle,
    affine: SimpleNamespace,
    right: np.ndarray,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome(affine_bundle, affine, threads=2)
    open_engine(affine_bundle, "affine", engine="openvino").close()
    monkeypatch.setattr(processor, "fingerprint", lambda: "another")
    outcome(affine_bundle, affine)
    openvino = openvino_engine._import("cpu")
    monkeypatch.setattr(openvino, "__version__", "another")
    outcome(affine_bundle, affine)
    assert compiled == ["affine.onnx"] * 4


def test_a_change_while_it_is_compiled_is_not_kept(
    affine_bundle: Bundle, affine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_graph = openvino_engine._compile

    def change_and_compile(spec: object, path: Path, settings: object) -> object:
        done = compile_graph(spec, path, settings)
        path.write_bytes(path.read_bytes() + b"\x32\x00")  # an empty text about the model
        return done

    monkeypatch.setattr(openvino_engine, "_compile", change_and_compile)
    outcome(affine_bundle, affine)
    assert entries() == []


def test_large_graphs_are_not_kept(
    affine_bundle: Bundle, affine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setattr(kept_graph, "MOST_BYTES_OF_GRAPH", 1000)
    outcome(affine_bundle, affine)
    assert not folder.exists()


def test_graphs_that_threads_compile_at_once_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_graph, "_WAIT_SECONDS", 0)
    make = Cache._make

    def slow(self: Cache, *args: Any) -> bytes:
        time.sleep(0.05)
        return make(self, *args)

    monkeypatch.setattr(Cache, "_make", slow)
    monkeypatch.setattr(kept_graph, "external_files", lambda path: [])
    at_once = threading.Barrier(2)

    def keep(name: str) -> None:
        (tmp_path / name).write_text(name)
        place = kept_graph.KeptGraph(tmp_path / name, "compiled", "1", {})
        at_once.wait()
        place.keep(name.encode)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(keep, ["a.onnx", "b.onnx"]))
    kept = [
        kept_graph.KeptGraph(tmp_path / name, "compiled", "1", {}) for name in ("a.onnx", "b.onnx")
    ]
    assert [place.content for place in kept] == [b"a.onnx", b"b.onnx"]


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "some")
    for number in range(3):
        cache.put({"number": str(number)}, bytes(1000))
        os.utime(cache.folder / cache_module.key_of({"number": str(number)}), (number, number))
    assert cache.get({"number": "0"}), "from now on it is the one that was used last"
    cache.put({"number": "3"}, bytes(1000), most_bytes=3000)  # with their manifests two fit
    assert [n for n in range(4) if cache.get({"number": str(n)})] == [0, 3]


@pytest.fixture
def unwritable(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True)
    folder.parent.chmod(0o500)
    yield
    folder.parent.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written(
    affine_bundle: Bundle, affine: SimpleNamespace, unwritable: None
) -> None:
    outcome(affine_bundle, affine)


@pytest.mark.parametrize("place", ["a file", "a link", "open to others"])
def test_a_folder_that_is_not_ours(
    affine_bundle: Bundle, affine: SimpleNamespace, folder: Path, place: str
) -> None:
    folder.parent.mkdir(parents=True)
    if place == "a file":
        folder.write_bytes(b"")
    elif place == "a link":
        (folder.parent / "other").mkdir(mode=0o700)
        folder.symlink_to(folder.parent / "other")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    outcome(affine_bundle, affine)
    assert place == "a file" or list(folder.iterdir()) == []


def test_a_full_disk(
    affine_bundle: Bundle,
    affine: SimpleNamespace,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write = Path.write_bytes

    def fail(path: Path, content: bytes) -> int:
        if path.is_relative_to(graph_folder()):
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    caplog.set_level(logging.INFO, "keyvid")
    outcome(affine_bundle, affine)
    assert entries() == []
    assert "affine.onnx: is not kept: " in caplog.text
    assert "No space left on device" in caplog.text


OPEN = """
import sys
import numpy as np
from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
engine = open_engine(Bundle.load(sys.argv[1]), "affine", engine="openvino", threads=1)
y = engine(x=np.ones((2, 64), np.float32), bias=np.zeros((1, 32), np.float32),
           row=np.zeros((2, 1), np.int64))["y"]
print(y.tobytes().hex())
"""


def test_two_at_once(affine_bundle: Bundle) -> None:
    command = [sys.executable, "-c", OPEN, str(affine_bundle.path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    one, other = (process.communicate()[0] for process in both)
    assert one == other != ""
    assert len(entries()) == 1


def test_killed_while_it_writes(
    affine_bundle: Bundle, affine: SimpleNamespace, compiled: list[str]
) -> None:
    kill = f"""
import os
from pathlib import Path
write = Path.write_bytes
def stop(path, content):
    write(path, content[: len(content) // 2])
    os.kill(os.getpid(), {int(signal.SIGKILL)})
Path.write_bytes = stop
"""
    command = [sys.executable, "-c", kill + OPEN, str(affine_bundle.path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(entries()) == 1, "the one that was begun"
    outcome(affine_bundle, affine)
    outcome(affine_bundle, affine)
    assert compiled == ["affine.onnx"]
    (entry,) = entries()
    assert not entry.name.startswith("."), "what was begun is gone"


def test_a_bundle_that_moved_is_the_same(
    affine_bundle: Bundle,
    affine: SimpleNamespace,
    right: np.ndarray,
    compiled: list[str],
    tmp_path: Path,
) -> None:
    shutil.copytree(affine_bundle.path, tmp_path / "copy")
    np.testing.assert_array_equal(outcome(Bundle.load(tmp_path / "copy"), affine), right)
    assert compiled == []


def test_an_openvino_that_does_not_know_the_setting_of_small_graphs(
    affine_bundle: Bundle, affine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino_engine._settings_of_small.cache_clear()
    monkeypatch.setattr(openvino_engine, "_OPENS_SOON", {"NO_SUCH_SETTING": "1"})
    np.testing.assert_allclose(
        outcome(affine_bundle, affine), affine.expected(**affine.draw(3)), atol=1e-5
    )
    openvino_engine._settings_of_small.cache_clear()
