"""A disk that is full for a while: the server answers, says so, and goes on after it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.serve.conftest import EXAMPLES
from tests.serve.drawn_worker import STEP_SECONDS
from tests.serve.server import DRAWN, Server, running

WAIT_SECONDS = 90.0
STEPS = 40


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One of 16 MB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size=16m tmpfs {folder} 2>/dev/null"):
        pytest.skip("file systems cannot be mounted here")
    yield folder
    os.system(f"umount -l {folder}")


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Server]:
    options = ("--threads", "1", "--no-page")
    with running(
        tmp_path / "log", tmp_path / "temporary", *options, data=disk / "data", main=DRAWN
    ) as server:
        yield server


def order(server: Server) -> httpx2.Response:
    files = {
        "image": (EXAMPLES / "drum.png").read_bytes(),
        "audio": (EXAMPLES / "drum.wav").read_bytes(),
    }
    form = {"steps": str(STEPS), "interpolator-steps": "1", "length": "0.5"}
    return httpx2.post(f"{server.url}/clips", files=files, data=form, timeout=WAIT_SECONDS)


def wait_for(server: Server, taken: httpx2.Response, *states: str) -> dict[str, object]:
    assert taken.status_code == 202, taken.text
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        job = httpx2.get(server.url + taken.headers["location"], timeout=WAIT_SECONDS).json()
        if job["state"] in states:
            return dict(job)
        time.sleep(0.5)
    raise AssertionError(f"{job}; {server.log}")


def fill(folder: Path) -> Path:
    """Take all that is free with a file, which is given."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


@pytest.mark.long
def test_a_disk_that_fills_in_mid_clip(server: Server, disk: Path) -> None:
    first, second = order(server), order(server)
    wait_for(server, first, "running")
    filling = fill(disk)
    time.sleep(6 * STEPS * STEP_SECONDS)  # it comes to its end meanwhile
    assert httpx2.get(f"{server.url}/healthz", timeout=WAIT_SECONDS).status_code == 200
    refused = order(server)
    assert refused.status_code == 503, refused.text
    assert "No space left on device; try again later" in refused.text
    filling.unlink()
    failed = wait_for(server, first, "failed", "done")
    assert "no room on the server's disk: the frames take 553 kB" in str(failed["error"])
    assert wait_for(server, second, "failed", "done")["state"] == "done"
    assert wait_for(server, order(server), "failed", "done")["state"] == "done"
