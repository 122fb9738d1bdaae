"""Servers and workers that are killed at random: what was taken is made, once, and as it would be.

Each client has a key for each order and repeats it until it is taken, as one would that loses its
connection when the server is killed.
"""

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

from tests.serve.conftest import EXAMPLES
from tests.serve.server import DRAWN, MAIN, Server, running

SEEDS, CLIENTS = 3, 20
POLL_SECONDS = 0.5
FORM = {"steps": "5", "interpolator-steps": "1", "length": "0.5"}
DRUM = {
    "image": (EXAMPLES / "drum.png").read_bytes(),
    "audio": (EXAMPLES / "drum.wav").read_bytes(),
}


def undisturbed(house: "House") -> list[bytes]:
    """What comes of each seed where nobody is killed."""
    return [order(house, f"before-{seed}", seed) for seed in range(SEEDS)]


class House:
    """A server that is started again each time that it is killed, with what it had."""

    def __init__(self, folder: Path, *options: str, main: str) -> None:
        self._folder = folder
        self._main = main
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
                if "-m" in child.cmdline():
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
            running(log, temporary, *self._options, data=data, main=self._main)
        )


def order(house: House, key: str, seed: int) -> bytes:
    """Order a clip and wait for it, as a client does that gives up for nothing; gives its bytes."""
    headers = {"idempotency-key": key}

    def ask(method: str, path: str, **content: object) -> httpx2.Response:
        while True:
            try:
                answer = httpx2.request(method, house.server.url + path, timeout=60, **content)  # type: ignore[arg-type]
            except httpx2.HTTPError:
                time.sleep(POLL_SECONDS)
                continue
            if answer.status_code not in (409, 429, 503):
                return answer
            time.sleep(POLL_SECONDS)

    data = {**FORM, "seed": str(seed)}
    taken = ask("POST", "/clips", files=DRUM, data=data, headers=headers)
    assert taken.status_code == 202, taken.text
    path = taken.headers["location"]
    while (job := ask("GET", path).json())["state"] in ("queued", "running"):
        time.sleep(POLL_SECONDS)
    assert job["state"] == "done", job
    return ask("GET", f"{path}/clip.mp4").content


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
            while not house.kill_worker(rng):  # they are about to start again
                time.sleep(POLL_SECONDS)
            killed[what] += 1
    return killed


def check(house: House, orders: int, servers: int, workers: int, seconds: float) -> Counter[str]:
    """All that is ordered while some are killed is made once, and as it would be."""
    expected = undisturbed(house)
    is_over = Event()
    with ThreadPoolExecutor(CLIENTS + 1) as threads:
        killing = threads.submit(disturb, house, servers, workers, is_over, seconds)
        names = [(f"order-{index}", index % SEEDS) for index in range(orders)]
        clips = [*threads.map(lambda name: order(house, *name), names)]
        is_over.set()
        killed = killing.result()
    assert [clip == expected[seed] for (_, seed), clip in zip(names, clips, strict=True)] == (
        [True] * orders
    )
    known = []
    page = "/clips?limit=100"
    while page:
        answer = httpx2.get(house.server.url + page, timeout=60).json()
        known += answer["jobs"]
        page = answer["next"]
    assert [job["state"] for job in known] == ["done"] * (orders + SEEDS)
    ends = Counter(re.findall(r" job id=(\S+)", house.log))
    assert max(ends.values()) == 1, "each ends once"
    return killed


@pytest.mark.long
def test_a_few_orders_and_kills(tmp_path: Path) -> None:
    house = House(tmp_path, main=DRAWN)
    try:
        killed = check(house, 6, 1, 1, 1.5)
    finally:
        house.close()
    assert killed == {"server": 1, "worker": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "orders", "servers", "workers"),
    [(DRAWN, 200, 20, 20), (MAIN, 40, 4, 4)],
    ids=["drawn", "networks"],
)
def test_many_orders_and_kills(
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    main: str,
    orders: int,
    servers: int,
    workers: int,
) -> None:
    house = House(tmp_path, "--workers", "2", main=main)
    begun = time.monotonic()
    try:
        killed = check(house, orders, servers, workers, 4.0)
    finally:
        house.close()
    record_property("killed", dict(killed))
    record_property("seconds", round(time.monotonic() - begun))
    assert killed == {"server": servers, "worker": workers}
