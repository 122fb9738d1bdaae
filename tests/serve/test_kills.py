"""Servers and workers that are killed at random: what was taken is made, once, and as it would be.

More than the few of each run: `KEYVID_KILLS="200 20 20" pytest -m slow tests/serve/test_kills.py`
(orders, servers and workers that are killed).
"""

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

import httpx2
import psutil
import pytest

from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Settings, UNetSettings
from tests.serve.conftest import EXAMPLES
from tests.serve.server import Server, running

SEEDS = 3
FORM = {"steps": "2", "interpolator-steps": "2", "length": "0.5"}
DRUM = {
    "image": (EXAMPLES / "drum.png").read_bytes(),
    "audio": (EXAMPLES / "drum.wav").read_bytes(),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What comes of each seed where nobody is killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = Settings(steps=2, interpolator=UNetSettings(steps=2))
    clips = []
    with Pipeline.load(threads=1) as pipeline:
        for seed in range(SEEDS):
            clip = pipeline(*DRUM.values(), settings=settings, length=0.5, seed=seed)
            clip.save(folder / f"{seed}.mp4")
            clips.append((folder / f"{seed}.mp4").read_bytes())
    return clips


class House:
    """A server that is started again each time that it is killed, with what it had."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = ("--threads", "1", "--no-page", "--queue", "1000", *options)
        self._closing = ExitStack()
        self.num_starts = 0
        self.server: Server
        self._start()

    def kill_server(self) -> None:
        """As the system does where memory is short."""
        self._closing.close()
        self._start()

    def kill_worker(self, rng: random.Random) -> bool:
        """The same with a worker that is at work; whether there was one."""
        found = []
        with suppress(psutil.Error):
            for child in psutil.Process(self.server.process.pid).children():
                if "keyvid.serve.worker" in child.cmdline():
                    found.append(child)
        if not found:
            return False
        rng.choice(found).kill()
        return True

    def close(self) -> None:
        """End it."""
        self._closing.close()

    @property
    def log(self) -> str:
        """What all of them have said."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("log*")))

    def _start(self) -> None:
        self.num_starts += 1
        log, data = self._folder / f"log{self.num_starts:03}", self._folder / "data"
        temporary = self._folder / "temporary"
        self.server = self._closing.enter_context(
            running(log, temporary, *self._options, data=data)
        )


def order(house: House, index: int) -> tuple[int, bytes]:
    """Order a clip and wait for it, as a client does that gives up for nothing; seed and bytes."""
    seed = index % SEEDS
    headers = {"idempotency-key": f"order {index}".replace(" ", "-")}

    def ask(method: str, path: str, **content: object) -> httpx2.Response:
        while True:
            try:
                answer = httpx2.request(method, house.server.url + path, timeout=60, **content)  # type: ignore[arg-type]
            except httpx2.HTTPError:
                time.sleep(0.2)
                continue
            if answer.status_code not in (409, 429, 503):
                return answer
            time.sleep(0.2)

    data = {**FORM, "seed": str(seed)}
    taken = ask("POST", "/clips", files=DRUM, data=data, headers=headers)
    assert taken.status_code == 202, taken.text
    path = taken.headers["location"]
    while (job := ask("GET", path).json())["state"] in ("queued", "running"):
        time.sleep(0.2)
    assert job["state"] == "done", job
    return seed, ask("GET", f"{path}/clip.mp4").content


def disturb(
    house: House, servers: int, workers: int, is_over: Event, seconds: float
) -> Counter[str]:
    """Kill so many, one after the other, at random times; gives how many it came to."""
    rng = random.Random(servers + workers)
    plan = ["server"] * servers + ["worker"] * workers
    rng.shuffle(plan)
    killed: Counter[str] = Counter()
    for what in plan:
        if is_over.wait(rng.uniform(0.2, 1.8) * seconds):
            break
        if what == "server":
            house.kill_server()
            killed[what] += 1
        else:
            killed[what] += house.kill_worker(rng)
    return killed


def check(
    house: House, orders: int, servers: int, workers: int, seconds: float, undisturbed: list[bytes]
) -> Counter[str]:
    """All that is ordered while some are killed is made once, and as it would be."""
    is_over = Event()
    with ThreadPoolExecutor(21) as threads:
        killing = threads.submit(disturb, house, servers, workers, is_over, seconds)
        clips = [*threads.map(lambda index: order(house, index), range(orders))]
        is_over.set()
        killed = killing.result()
    assert [content == undisturbed[seed] for seed, content in clips] == [True] * orders
    known = []
    page = "/clips?limit=100"
    while page:
        answer = httpx2.get(house.server.url + page, timeout=60).json()
        known += answer["jobs"]
        page = answer["next"]
    assert [job["state"] for job in known] == ["done"] * orders
    ends = Counter(re.findall(r" job id=(\S+)", house.log))
    assert max(ends.values()) == 1, "each ends once"
    return killed


def test_a_few_orders_and_kills(tmp_path: Path, undisturbed: list[bytes]) -> None:
    house = House(tmp_path)
    try:
        killed = check(house, 6, 1, 1, 2.5, undisturbed)
    finally:
        house.close()
    assert killed == {"server": 1, "worker": 1}


@pytest.mark.slow
def test_many_orders_and_kills(
    tmp_path: Path, undisturbed: list[bytes], record_property: Callable[[str, object], None]
) -> None:
    orders, servers, workers = map(int, os.environ.get("KEYVID_KILLS", "200 20 20").split())
    house = House(tmp_path, "--workers", "2")
    begun = time.monotonic()
    try:
        killed = check(house, orders, servers, workers, 12.0, undisturbed)
    finally:
        house.close()
    record_property("killed", dict(killed))
    record_property("seconds", round(time.monotonic() - begun))
    assert killed == {"server": servers, "worker": workers}
