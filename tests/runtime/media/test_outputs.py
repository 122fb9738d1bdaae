"""Result files are checked early and written whole or not at all."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keyvid.errors import MediaError
from keyvid.runtime.media.outputs import check_clip_output, check_output, write_atomic


def test_content_is_written_with_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"old")
    write_atomic(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "plain"]


def test_relative_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_output(Path("a.mp4"), ".mp4")
    write_atomic(Path("a.mp4"), b"film")
    assert (tmp_path / "a.mp4").read_bytes() == b"film"


# A limit on file sizes makes writing fail as a full disk does, and needs no rights to set up.
FULL = """
import resource, sys
from pathlib import Path
from keyvid.errors import MediaError
from keyvid.runtime.media.outputs import check_clip_output, check_output, write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    {call}
except MediaError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(
    "call",
    ["write_atomic(Path('a.mp4'), bytes(200_000))", "check_output(Path('a.mp4'), '.mp4')"],
)
def test_failed_write_leaves_the_old_file(tmp_path: Path, call: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(call=call, limit=50_000)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == (
        "a.mp4: cannot be written: File too large; choose another folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


CLIP = """
import numpy as np
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.video import write_video
noise = np.random.default_rng(0).integers(0, 255, (24, 64, 64, 3), np.uint8)
write_video("a.mp4", noise, 24, Sound(np.zeros((16_000, 1), np.float32), 16_000))
"""


def test_a_disk_that_is_full_at_the_end(tmp_path: Path) -> None:
    """The clip did not fit: the line says how much there was of it, and how much room there is."""
    call = CLIP.strip().replace("\n", "\n    ")
    done = subprocess.run(
        [sys.executable, "-c", FULL.format(call=call, limit=100_000)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(
        r"a.mp4: cannot be written: takes more than [\d.]+ kB, [\d.]+ [MGT]B are free; make room; "
        "choose another folder",
        done.stderr.strip(),
    )
    assert not [*tmp_path.iterdir()]


def test_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"old")

    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a.mp4", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"old"


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "in.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("in.mp4")
    cases = {
        tmp_path / "a.avi": r"give a name that ends in \.mp4",
        tmp_path / "a": r"give a name that ends in \.mp4",
        tmp_path / "folder.mp4": "is a folder",
        tmp_path / "missing" / "a.mp4": r"there is no folder .*missing; create it",
        tmp_path / "file" / "a.mp4": "there is no folder",
        tmp_path / "in.mp4": "would overwrite the input",
        tmp_path / "link.mp4": "would overwrite the input",
    }
    before = sorted(tmp_path.rglob("*"))
    for path, message in cases.items():
        with pytest.raises(MediaError, match=message):
            check_output(path, ".mp4", inputs=[tmp_path / "in.mp4", tmp_path / "nowhere.wav"])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MediaError, match="Permission denied"):
        check_output(tmp_path / "a.mp4", ".mp4")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder that takes no files")
def test_folder_that_takes_no_files() -> None:
    with pytest.raises(MediaError, match=r"/proc/a\.mp4: cannot be written: "):
        check_output(Path("/proc/a.mp4"), ".mp4")


def test_what_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "target.mp4").touch()
    (tmp_path / "link.mp4").symlink_to("target.mp4")
    (tmp_path / "broken.mp4").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "kept.mp4").touch(mode=0o444)
    cases = {"link": "is a link", "broken": "is a link", "fifo": "FIFO", "kept": "is read-only"}
    before = {path: path.lstat() for path in tmp_path.iterdir()}
    for name, message in cases.items():
        with pytest.raises(MediaError, match=rf"{name}\.mp4: .*{message}.*; give "):
            check_clip_output(tmp_path / f"{name}.mp4")
    assert {path: path.lstat() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", r"^\.: is a folder that is not empty; name a new one"),
        ("", "is a folder that is not empty"),
        ("/", "^/: is a folder that is not empty"),
        ("x" * 300 + ".mp4", r"x\.\.\.x.*File name too long"),
        ("a\0.mp4", r"a\\x00\.mp4: no file can have this name"),
        ("\ud800.mp4", r"\\ud800\.mp4: no file can have this name"),
        ("a\nb.avi", r"a\\nb\.avi: no video of this kind"),
        ("file/", "is there and no folder"),
        ("no/where/", "there is no folder no"),
        ("/dev/full", "is there and no folder"),
    ],
)
def test_unusual_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(MediaError, match=message) as caught:
        check_clip_output(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    check_clip_output(path)
    write_atomic(path, b"film")
    assert path.read_bytes() == b"film"


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    check_clip_output(tmp_path / "out")
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


WRITER = """
import sys, time
from pathlib import Path
from keyvid.runtime.media.outputs import {kind}
with {kind}(Path("a.mp4")) as temporary:
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_what_a_killed_writer_left_is_swept(tmp_path: Path, kind: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER.format(kind=kind)], cwd=tmp_path, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        write_atomic(tmp_path / "b.json", b"{}")
        assert len(list(tmp_path.iterdir())) == 2, "it is still at work"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(list(tmp_path.iterdir())) == 2
    write_atomic(tmp_path / "b.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
