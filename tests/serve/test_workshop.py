"""The line of jobs by a clock that the test sets."""

import errno
import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import Mock

import pytest

from keyvid.errors import EngineError, SettingsError
from keyvid.runtime.clip import Clip
from keyvid.serve.job import Job
from keyvid.serve.job_folder import JobFolder
from keyvid.serve.limits import Limits
from keyvid.serve.order import Order, take_order
from keyvid.serve.store import Store, StoreError
from keyvid.serve.workshop import RefusedError, Workshop, id_of_bytes
from tests.serve.conftest import EXAMPLES, StandIn
from tests.serve.queue import Queue


class Clock:
    """Seconds since whenever, as the test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Silent(StandIn):
    """Says that it is at work, and nothing more until it may go on."""

    def make(self, prepared: Any, *rest: Any) -> Clip:
        self.is_at_work.set()
        assert self.may_go_on.wait(20)
        return super().make(prepared, *rest)


@pytest.fixture
def pipeline() -> Silent:
    return Silent()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_workshop(
    pipeline: Silent, queue: Queue, clock: Clock, tmp_path: Path
) -> Iterator[Callable[..., Workshop]]:
    """`open_workshop(queue=1)`: at work until the end of the test, or until the next one."""
    opened: list[Workshop] = []

    def start(**limits: Any) -> Workshop:
        if opened:
            opened.pop().stop()
        workshop = queue.workshop(pipeline, tmp_path / "jobs", Limits(**limits), clock)
        workshop.start()
        opened.append(workshop)
        return workshop

    yield start
    pipeline.may_go_on.set()
    opened[-1].stop()


@pytest.fixture
def order(pipeline: Silent) -> Callable[..., Order]:
    """`order(length="3")`: of the drum."""

    def take(**values: Any) -> Order:
        with (EXAMPLES / "drum.png").open("rb") as image, (EXAMPLES / "drum.wav").open("rb") as wav:
            return take_order(pipeline.bundle, Limits(), image, wav, values)

    return take


def wait_until(job: Job, *states: str) -> Job:
    for _ in range(500):
        if job.state in states:
            return job
        time.sleep(0.02)
    raise AssertionError(f"still {job.state}")


def wait_for_end(job: Job) -> Job:
    return wait_until(job, "done", "failed", "cancelled")


def refused(workshop: Workshop, client: str = "me") -> RefusedError:
    with pytest.raises(RefusedError) as refusal:
        workshop.check_open(client)
    return refusal.value


def test_states_of_a_job(open_workshop: Any, order: Any, pipeline: Silent) -> None:
    workshop = open_workshop(job_seconds=60)
    assert workshop.is_ready
    assert not workshop.is_busy
    pipeline.may_go_on.clear()
    first, second = (workshop.submit(order(), "me") for _ in range(2))
    wait_until(first, "running")
    assert (first.created, first.started, second.state) == (1000, 1000, "queued")
    assert (workshop.place(first), workshop.place(second)) == (0, 1)
    assert workshop.is_busy
    pipeline.may_go_on.set()
    assert wait_for_end(first).state == wait_for_end(second).state == "done"
    assert not workshop.is_busy
    assert {"clip.mp4", "report.json", "plot.png"} < {p.name for p in first.folder.path.iterdir()}


def test_when_to_come_again_is_told_from_the_pace(
    open_workshop: Any, order: Any, pipeline: Silent, clock: Clock
) -> None:
    workshop = open_workshop(queue=0)
    assert refused(workshop).retry_after == 1, "nothing is being made"
    workshop = open_workshop(queue=1)
    pipeline.may_go_on.clear()
    wait_until(workshop.submit(order(), "me"), "running")
    workshop.submit(order(), "me")
    clock.now += 3.5
    assert refused(workshop).reason == "queue"
    assert refused(workshop).retry_after == 7, "of ten seconds, a first guess"
    clock.now += 20
    assert refused(workshop).retry_after == 1, "it should have been done by now"


def test_the_pace_is_that_of_the_clips_before(
    open_workshop: Any, order: Any, pipeline: Silent, clock: Clock
) -> None:
    workshop = open_workshop(queue=1)
    for seconds in (24, 48):  # 48 frames each: 0.5 and 1 s a frame
        pipeline.may_go_on.clear()
        job = wait_until(workshop.submit(order(), "me"), "running")
        clock.now += seconds
        pipeline.may_go_on.set()
        wait_for_end(job)
    pipeline.may_go_on.clear()
    wait_until(workshop.submit(order(length="1"), "me"), "running")  # 24 frames, 18 s
    workshop.submit(order(), "me")
    clock.now += 2.5
    assert refused(workshop).retry_after == 16
    assert str(refused(workshop)) == (
        "the queue has no room for more than 1 clip; try again in 16 s"
    )


def test_a_limit_for_each_client(open_workshop: Any, order: Any, pipeline: Silent) -> None:
    workshop = open_workshop(queue=9, queue_of_one=1)
    pipeline.may_go_on.clear()
    wait_until(workshop.submit(order(), "me"), "running")
    workshop.submit(order(), "me")
    assert refused(workshop).reason == "client"
    assert str(refused(workshop)).startswith(
        "the queue has no room for more than 1 clip of yours; try"
    )
    workshop.check_open("you")


def test_whoever_orders_much_does_not_hold_up_others(
    open_workshop: Any, order: Any, pipeline: Silent
) -> None:
    workshop = open_workshop()
    pipeline.may_go_on.clear()
    wait_until(workshop.submit(order(), "much"), "running")
    much = [workshop.submit(order(seed=n), "much") for n in range(1, 4)]
    few = workshop.submit(order(seed=99), "few")
    assert workshop.place(few) == 1
    pipeline.may_go_on.set()
    for job in (*much, few):
        wait_for_end(job)
    assert [clip.seed for clip in pipeline.made] == [0, 99, 1, 2, 3]


def test_a_workshop_that_is_stopping_keeps_what_waits(
    open_workshop: Any, order: Any, pipeline: Silent, queue: Queue
) -> None:
    workshop = open_workshop(grace_seconds=4.5)
    pipeline.may_go_on.clear()
    running, queued = (workshop.submit(order(), "me") for _ in range(2))
    wait_until(running, "running")
    stopping = Thread(target=workshop.stop, args=(10,))
    stopping.start()
    for _ in range(500):
        if not workshop.is_ready:
            break
        time.sleep(0.01)
    assert workshop.is_busy
    assert (refused(workshop).reason, refused(workshop).retry_after) == ("stopping", 6)
    assert workshop.why_not_ready == "the server is stopping"
    pipeline.may_go_on.set()
    stopping.join(20)
    assert running.state == "done", "it had the time"
    assert queued.state in ("queued", "running"), "the next one goes on with it"


def test_what_was_there_is_there_after_a_restart(
    open_workshop: Any, order: Any, pipeline: Silent, clock: Clock, tmp_path: Path
) -> None:
    workshop = open_workshop(keep_seconds=60)
    pipeline.failure = EngineError("generator: NaN in step 3")
    failed = wait_for_end(workshop.submit(order(), "me"))
    pipeline.failure = None
    clock.now += 0.1
    done = wait_for_end(workshop.submit(order(prompt="drum"), "me"))
    pipeline.may_go_on.clear()
    clock.now += 0.1
    running = workshop.submit(order(), "me")
    clock.now += 0.1
    queued = workshop.submit(order(), "me")
    wait_until(running, "running")
    clock.now += 30
    (tmp_path / "jobs" / "left").mkdir()  # of an order that was never taken
    again = open_workshop(keep_seconds=60)
    assert not (tmp_path / "jobs" / "left").exists()
    assert [job.id for job in again.jobs] == [j.id for j in (failed, done, running, queued)]
    for job in (failed, done):
        found = again.find(job.id)
        assert (found.state, found.error, found.ended) == (job.state, job.error, job.ended)
        assert (found.prompt, found.num_frames) == (job.prompt, job.num_frames)
    assert wait_until(again.find(running.id), "running").started == running.started
    pipeline.may_go_on.set()
    for job in (running, queued):
        assert wait_for_end(again.find(job.id)).state == "done"
    clock.now += 31
    again.discard_old()
    assert [job.id for job in again.jobs] == [running.id, queued.id]
    assert again.find(done.id) is None
    assert again.was_there(done.id)
    assert not again.was_there("nonesuch")


def test_an_order_that_cannot_be_kept_is_not_taken(
    open_workshop: Any, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = open_workshop(queue=1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "create", full)
        for _ in range(3):  # none of which takes a place in the line
            with pytest.raises(RefusedError, match="No space left on device") as refusal:
                workshop.submit(order(), "me")
            assert (refusal.value.reason, refusal.value.retry_after) == ("disk", 60)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", Mock(side_effect=StoreError("the store: is locked")))
        with pytest.raises(RefusedError, match="is locked; try again later"):
            workshop.submit(order(), "me")
    assert not [*(tmp_path / "jobs").iterdir()]
    assert wait_for_end(workshop.submit(order(), "me")).state == "done", "it goes on then"


def test_a_store_that_is_gone_for_a_while(
    open_workshop: Any, order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = open_workshop()
    job = workshop.submit(order(), "me")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "live", Mock(side_effect=StoreError("the store: is gone")))
        for _ in range(500):
            if not workshop.is_ready:
                break
            time.sleep(0.02)
        assert workshop.why_not_ready == "the store: is gone"
        assert refused(workshop).reason == "store"
    assert wait_for_end(job).state == "done"
    assert workshop.is_ready


@pytest.mark.parametrize(("passed", "is_kept"), [(59, True), (61, False)])
def test_results_are_kept_as_long_as_was_said(
    open_workshop: Any, order: Any, clock: Clock, passed: int, is_kept: bool
) -> None:
    workshop = open_workshop(keep_seconds=60)
    job = wait_for_end(workshop.submit(order(), "me"))
    clock.now += passed
    workshop.discard_old()
    assert (workshop.find(job.id) is not None) == job.folder.path.exists() == is_kept


@pytest.mark.parametrize(("length", "is_taken"), [("2", True), ("2.04", True), ("2.05", False)])
def test_a_frame_more_than_the_limit_is_taken(
    pipeline: Silent, length: str, is_taken: bool
) -> None:
    """As sounds are seldom whole numbers of frames: 2 s and 1/24 of one."""
    with (EXAMPLES / "drum.png").open("rb") as image, (EXAMPLES / "drum.wav").open("rb") as audio:
        expected = nullcontext() if is_taken else pytest.raises(SettingsError, match="2 s at most")
        with expected:
            take_order(pipeline.bundle, Limits(seconds=2.0), image, audio, {"length": length})


def test_a_webhook_tells_of_the_end(
    pipeline: Silent, queue: Queue, order: Any, tmp_path: Path
) -> None:
    """The second time: at first its receiver is not there."""
    heard: list[tuple[str, dict[str, Any], str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append((self.path, json.loads(body), self.headers["webhook-id"]))
            self.send_response(500 if len(heard) == 1 else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    workshop = queue.workshop(pipeline, tmp_path / "jobs", allow_private_webhooks=True)
    workshop.start()
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/done"
        workshop.check_webhook(url)
        job = wait_for_end(workshop.submit(order(), "me", webhook=url))
        for _ in range(1000):
            if len(heard) == 2:
                break
            time.sleep(0.02)
        server.shutdown()
    workshop.stop()
    assert heard[0] == heard[1]
    path, message, name = heard[0]
    assert (path, name, message["type"]) == ("/done", f"msg_{job.id}", "clip.ended")
    assert message["data"] == {"id": job.id, "state": "done", "error": ""}


def test_webhooks_lead_into_no_private_network(open_workshop: Any) -> None:
    with pytest.raises(SettingsError, match="leads to no address of the public internet"):
        open_workshop().check_webhook("http://127.0.0.1/done")


def test_an_order_whose_worker_is_gone_with_its_machine(
    open_workshop: Any, order: Any, pipeline: Silent, clock: Clock
) -> None:
    """It has said nothing for two minutes; should it come back, what it has made is kept."""
    workshop = open_workshop()
    pipeline.may_go_on.clear()
    job = wait_until(workshop.submit(order(), "me"), "running")
    time.sleep(0.5)  # it is heard of once
    clock.now += 119
    time.sleep(0.5)
    assert job.state == "running"
    clock.now += 2
    wait_until(job, "queued")
    assert workshop.place(job) == 0
    pipeline.may_go_on.set()
    assert wait_for_end(job).state == "done"
    assert len(pipeline.made) == 1


def test_no_id_looks_like_an_option(open_workshop: Any, order: Any) -> None:
    """Those of the server before may; they are found all the same."""
    assert id_of_bytes(bytes([0xF8, *range(11)])) == id_of_bytes(bytes([0x00, *range(11)]))
    assert id_of_bytes(bytes([0xFC, *range(11)])).startswith("_")
    workshop = open_workshop()
    job = workshop.submit(order(), "me", job_id="-fterwards_12345")
    assert wait_for_end(workshop.find("-fterwards_12345")).state == "done"
    workshop.discard(job)
    assert workshop.find("-fterwards_12345") is None
