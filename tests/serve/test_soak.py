"""Fifty clients at once, hostile ones among them, and a server that is killed in mid-job."""

import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import httpx2
import pytest

from tests.serve.conftest import EXAMPLES
from tests.serve.server import Server, running

CASES = Path(__file__).parents[1] / "cases"
KINDS = ("ball", "drum", "flower", "hammer", "mouth", "shaker")
NUM_CLIENTS, QUEUE = 50, 8


def parts_of(index: int) -> dict[str, bytes]:
    """Picture and sound of a client: a third of them are damaged."""
    kind = KINDS[index % len(KINDS)]
    image = (EXAMPLES / f"{kind}.png").read_bytes()
    audio = (EXAMPLES / f"{kind}.wav").read_bytes()
    damage = index % 3 == 2
    hostile = [(audio, audio), (image[: len(image) // 3], audio), (image, b"RIFF" * 99), (b"", b"")]
    image, audio = hostile[index // 3 % len(hostile)] if damage else (image, audio)
    return {"image": image, "audio": audio}


def be_a_client(server: Server, index: int) -> str:
    """Order, watch or cancel, fetch, delete; gives how it ended."""
    with httpx2.Client(base_url=server.url, timeout=600) as client:
        data = {"steps": "1", "seed": str(index)}
        answer = client.post("/clips", files=parts_of(index), data=data)
        if answer.status_code != 202:
            assert answer.json()["detail"]
            assert answer.status_code != 429 or int(answer.headers["retry-after"]) >= 1
            return str(answer.status_code)
        job = answer.headers["location"]
        if index % 5 == 0:
            assert client.delete(job).status_code == 204
            return "cancelled"
        while client.get(job).json()["state"] in ("queued", "running"):
            time.sleep(0.5)
        clip = client.get(f"{job}/clip.mp4").content
        report = client.get(f"{job}/report.json").json()
        assert report["seed"] == index, "the clip of another client"
        assert clip[4:8] == b"ftyp"
        assert client.delete(job).status_code == 204
        return "done"


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.mark.slow
def test_soak(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    temporary = tmp_path / "temporary"
    options = ["--queue", str(QUEUE), "--threads", "1", "--no-page", "--grace", "0"]
    begun = time.monotonic()
    with running(tmp_path / "log", temporary, *options) as server:
        with ThreadPoolExecutor(NUM_CLIENTS) as clients:
            ends = Counter(clients.map(lambda index: be_a_client(server, index), range(50)))
        record_property("ends", dict(ends))
        record_property("seconds", round(time.monotonic() - begun))
        assert set(ends) <= {"done", "cancelled", "422", "429"}
        assert ends["done"] >= 3
        assert ends["422"] >= 5
        assert not files_of(temporary), "all have deleted theirs"
        assert "Traceback" not in server.log

        job = httpx2.post(f"{server.url}/clips", files=parts_of(0), data={"steps": "20"})
        assert job.status_code == 202, "the line is free again"
        while httpx2.get(server.url + job.headers["location"]).json()["state"] == "queued":
            time.sleep(0.1)
        server.process.kill()
        server.process.wait()
    assert len([*temporary.iterdir()]) == 1, "what the killed one left"

    with running(tmp_path / "log2", temporary, *options) as server:
        job = httpx2.post(f"{server.url}/clips", files=parts_of(1), data={"steps": "1"})
        while httpx2.get(server.url + job.headers["location"]).json()["state"] != "done":
            time.sleep(0.2)
        clip = httpx2.get(f"{server.url}{job.headers['location']}/clip.mp4")
        (tmp_path / "clip.mp4").write_bytes(clip.content)
        with av.open(str(tmp_path / "clip.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) == 48
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
    assert not [*temporary.iterdir()]
