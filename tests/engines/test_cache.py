"""The plan cache gives back what was put in, whole, or nothing; whoever is killed, whenever."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from stat import S_IMODE

import pytest

from keyvid.engines import cache as cache_module
from keyvid.engines.cache import Cache, key_of
from keyvid.errors import EngineError

KIND = {"graph": "abc", "gpu": "NVIDIA Test", "driver": "1"}
CONTENT = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "plans"


@pytest.fixture
def cache(folder: Path) -> Cache:
    """A cache with one plan, `CONTENT` for `KIND`."""
    cache = Cache(folder)
    cache.put(KIND, CONTENT)
    return cache


def never(path: Path, lock: int) -> dict[str, float]:
    raise AssertionError("the plan is there")


def make(path: Path, lock: int) -> dict[str, float]:
    path.write_bytes(CONTENT)
    return {"seconds": 1}


def test_a_plan_is_made_once(folder: Path) -> None:
    cache = Cache(folder)
    assert cache.get(KIND) is None
    assert cache.get_or_make(KIND, make) == CONTENT
    assert Cache(folder).get_or_make(KIND, never) == CONTENT
    ((key, entry),) = cache.entries()
    assert key == key_of(KIND)
    assert entry is not None
    assert (entry.bytes, entry.ingredients, entry.record) == (len(CONTENT), KIND, {"seconds": 1})


def test_only_the_user_can_read_it(cache: Cache) -> None:
    modes = {path.name: S_IMODE(path.stat().st_mode) for path in cache.folder.rglob("*")}
    assert modes == {"lock": 0o600, key_of(KIND): 0o700, "plan": 0o600, "manifest.json": 0o600}
    assert S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", KIND)
def test_each_ingredient_counts(cache: Cache, name: str) -> None:
    assert cache.get(KIND | {name: "other"}) is None
    assert cache.get(KIND) == CONTENT


def test_the_order_of_ingredients_does_not_count() -> None:
    assert key_of(dict(reversed(KIND.items()))) == key_of(KIND)


@pytest.mark.parametrize("position", [0, len(CONTENT) // 2, len(CONTENT) - 1])
def test_a_changed_byte(cache: Cache, position: int) -> None:
    plan = cache.folder / key_of(KIND) / "plan"
    changed = bytearray(CONTENT)
    changed[position] ^= 1
    plan.write_bytes(changed)
    assert cache.get(KIND) is None
    assert cache.get_or_make(KIND, make) == CONTENT  # built again, not repaired
    assert plan.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_another_length(cache: Cache, content: bytes) -> None:
    (cache.folder / key_of(KIND) / "plan").write_bytes(content)
    assert cache.get(KIND) is None
    assert list(cache.entries()) == [(key_of(KIND), None)]


@pytest.mark.parametrize("field", [field.name for field in fields(cache_module.Entry)])
def test_a_manifest_without_a_field(cache: Cache, field: str) -> None:
    manifest = cache.folder / key_of(KIND) / "manifest.json"
    content = json.loads(manifest.read_text())
    del content[field]
    manifest.write_text(json.dumps(content))
    assert cache.get(KIND) is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_manifest_that_is_none(cache: Cache, text: bytes) -> None:
    manifest = cache.folder / key_of(KIND) / "manifest.json"
    manifest.write_bytes(text)
    assert cache.get(KIND) is None


def test_a_foreign_plan_under_this_name(cache: Cache) -> None:
    """A plan of another GPU that was renamed is not run."""
    other = KIND | {"gpu": "another"}
    (cache.folder / key_of(KIND)).rename(cache.folder / key_of(other))
    assert cache.get(other) is None
    assert cache.get(KIND) is None


def test_missing_parts(cache: Cache) -> None:
    (cache.folder / key_of(KIND) / "plan").unlink()
    assert cache.get(KIND) is None
    (cache.folder / key_of(KIND) / "manifest.json").unlink()
    assert cache.get(KIND) is None


@pytest.mark.parametrize("part", ["plan", "manifest.json", ""])
def test_links_are_refused(cache: Cache, tmp_path: Path, part: str) -> None:
    path = cache.folder / key_of(KIND) / part
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match=r"a link or no folder.*native code; remove it"):
        cache.get(KIND)


def test_a_pipe_does_not_block(cache: Cache) -> None:
    plan = cache.folder / key_of(KIND) / "plan"
    plan.unlink()
    os.mkfifo(plan, 0o600)
    with pytest.raises(EngineError, match="not a regular file"):
        cache.get(KIND)


@pytest.mark.parametrize("part", ["plan", "manifest.json", ""])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_what_others_can_write_is_refused(cache: Cache, part: str, mode: int) -> None:
    path = cache.folder / key_of(KIND) / part
    path.chmod(0o700 | mode)
    with pytest.raises(EngineError, match="others can write to it"):
        cache.get(KIND)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o770, 0o707, 0o701])
def test_an_open_folder_is_refused(cache: Cache, mode: int) -> None:
    cache.folder.chmod(mode)
    with pytest.raises(EngineError, match=r"want drwx------|others can write"):
        Cache(cache.folder)


def test_a_linked_folder_is_refused(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(cache.folder)
    with pytest.raises(EngineError, match="want drwx------"):
        Cache(tmp_path / "link")


def test_a_file_instead_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    with pytest.raises(EngineError, match="file: "):
        Cache(tmp_path / "file")
    with pytest.raises(EngineError, match="file"):
        Cache(tmp_path / "file" / "plans")


def test_another_owner_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EngineError, match=rf"belongs to user {os.getuid()}, not to"):
        Cache(cache.folder)
    with pytest.raises(EngineError, match=rf"belongs to user {os.getuid()}, not to"):
        cache.get(KIND)


def test_a_failed_build_leaves_the_old_plan_and_nothing_else(cache: Cache) -> None:
    def fail(path: Path, lock: int) -> dict[str, float]:
        path.write_bytes(b"half")
        raise EngineError("no luck")

    other = KIND | {"driver": "2"}
    with pytest.raises(EngineError, match="no luck"):
        cache.get_or_make(other, fail)
    assert cache.get(KIND) == CONTENT
    assert {path.name for path in cache.folder.iterdir()} == {"lock", key_of(KIND)}


def test_a_build_that_writes_nothing(folder: Path) -> None:
    with pytest.raises(EngineError, match="No such file"):
        Cache(folder).get_or_make(KIND, lambda path, lock: {})


def test_clear(cache: Cache) -> None:
    (cache.folder / f".{'0' * 64}.12345678").mkdir()
    (cache.folder / "notes.txt").touch()  # not of the cache, stays
    assert cache.clear() == 1
    assert {path.name for path in cache.folder.iterdir()} == {"lock", "notes.txt"}
    assert cache.get(KIND) is None


def test_clear_does_not_take_a_plan_away_from_its_builder(cache: Cache) -> None:
    def clear(path: Path, lock: int) -> dict[str, float]:
        with pytest.raises(EngineError, match="a plan is being built; try again later"):
            Cache(cache.folder).clear()
        return make(path, lock)

    assert cache.get_or_make(KIND | {"driver": "2"}, clear) == CONTENT


def test_discard(cache: Cache) -> None:
    cache.discard(KIND)
    assert cache.get(KIND) is None
    cache.discard(KIND)


SCRIPT = """
import os, sys, time
from pathlib import Path
from keyvid.engines.cache import Cache

folder, log, point = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
calls = 0

def stop_at_point(event, arguments):
    global calls
    on_files = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree")
    if event in on_files or event == "open" and str(folder) in str(arguments[0]):
        calls += 1
        if calls == point:
            os.kill(os.getpid(), 9)

def make(path, lock):
    with log.open("a") as file:
        file.write("build\\n")
    path.write_bytes(b"half a plan")
    time.sleep(float(sys.argv[4]))
    path.write_bytes(b"the whole plan")
    return {}

cache = Cache(folder)
if point:
    sys.addaudithook(stop_at_point)
print(cache.get_or_make({"graph": "abc"}, make).decode())
"""


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start(point, seconds)`: a process that makes a plan, killed at that operation on files."""
    started = []

    def run(point: int = 0, seconds: float = 0) -> subprocess.Popen[str]:
        arguments = [str(folder), str(tmp_path / "log"), str(point), str(seconds)]
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_killed_at_each_operation_the_cache_stays_usable(
    start: Callable[..., subprocess.Popen[str]], folder: Path
) -> None:
    """Each operation on a file is a place to be killed at; the last one finds nothing to stop."""
    wanted = {"graph": "abc"}
    seen = set()
    for point in range(1, 40):
        process = start(point)
        process.communicate()
        cache = Cache(folder)
        found = cache.get(wanted)
        seen.add(found)
        assert found in (None, b"the whole plan")
        assert cache.get_or_make(wanted, lambda path, _: {"n": path.write_bytes(b"mine")})
        assert not list(folder.glob(".*"))
        cache.clear()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    else:
        raise AssertionError("it never came to the end")
    assert point > 8
    assert seen == {None, b"the whole plan"}


def test_two_at_once_make_one_plan(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    both = [start(seconds=0.5), start(seconds=0.5)]
    assert [process.communicate()[0] for process in both] == ["the whole plan\n"] * 2
    assert (tmp_path / "log").read_text() == "build\n"


def test_the_next_one_goes_on_after_a_kill(
    start: Callable[..., subprocess.Popen[str]], folder: Path, tmp_path: Path
) -> None:
    first = start(seconds=60)
    while not list(folder.glob(".*/plan")):
        time.sleep(0.01)
    second = start()
    first.kill()
    assert second.communicate()[0] == "the whole plan\n"
    assert (tmp_path / "log").read_text() == "build\n" * 2
    assert not list(folder.glob(".*"))


def test_a_plan_that_another_process_made_meanwhile_is_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was missing when it was asked for, and is there when the lock is free."""
    cache, get = Cache(folder), Cache.get
    other = Cache(folder)

    def late(self: Cache, ingredients: dict[str, str]) -> bytes | None:
        monkeypatch.undo()
        assert get(self, ingredients) is None
        other.put(ingredients, CONTENT)
        return None

    monkeypatch.setattr(Cache, "get", late)
    assert cache.get_or_make(KIND, never) == CONTENT


def test_of_a_link_in_place_of_a_plan_only_the_link_is_removed(
    cache: Cache, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"precious")
    entry = cache.folder / key_of({"graph": "another"})
    entry.symlink_to(tmp_path / "photos")
    assert cache.clear() == 2
    assert not entry.is_symlink()
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("waits", [True, False])
def test_putting_waits_for_the_lock_unless_told_otherwise(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    import fcntl

    asked: list[int] = []
    monkeypatch.setattr(fcntl, "flock", lambda _, operation: asked.append(operation))
    if waits:
        cache.put(KIND, CONTENT)
    else:
        cache.put(KIND, CONTENT, wait=0)
    assert asked == [fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB]


def test_putting_waits_a_while_for_another_process(cache: Cache) -> None:
    with ThreadPoolExecutor(1) as threads:
        with cache._locked():  # as another process would, through a descriptor of its own
            waiting = threads.submit(cache.put, KIND, b"new", wait=30)
            with pytest.raises(EngineError, match="a plan is being built"):
                cache.put(KIND, b"other", wait=0.1)
        waiting.result()
    assert cache.get(KIND) == b"new"
