"""The line of jobs by a clock that the test sets."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from keyvid.errors import SettingsError
from keyvid.runtime.clip import Clip
from keyvid.serve import workshop as workshop_module
from keyvid.serve.job import Job
from keyvid.serve.limits import Limits
from keyvid.serve.metrics import Metrics
from keyvid.serve.order import Order, take_order
from keyvid.serve.workshop import RefusedError, Workshop
from tests.serve.conftest import EXAMPLES, StandIn


class Clock:
    """Seconds since whenever, as the test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Silent(StandIn):
    """Says that it is at work, and nothing more until it may go on."""

    def make(self, prepared: Any, *rest: Any) -> Clip:
        self.is_at_work.set()
        assert self.may_go_on.wait(10)
        return super().make(prepared, *rest)


@pytest.fixture
def pipeline() -> Silent:
    return Silent()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_workshop(
    pipeline: Silent, clock: Clock, tmp_path: Path
) -> Iterator[Callable[..., Workshop]]:
    """`open_workshop(queue=1)`: at work until the end of the test."""
    opened: list[Workshop] = []

    def start(**limits: Any) -> Workshop:
        workshop = Workshop(pipeline, Limits(**limits), tmp_path, Metrics(), clock)
        workshop.start()
        opened.append(workshop)
        return workshop

    yield start
    pipeline.may_go_on.set()
    for workshop in opened:
        workshop.stop()


@pytest.fixture
def order(pipeline: Silent) -> Callable[..., Order]:
    """`order(length="3")`: of the drum."""

    def take(**values: Any) -> Order:
        with (EXAMPLES / "drum.png").open("rb") as image, (EXAMPLES / "drum.wav").open("rb") as wav:
            return take_order(pipeline, Limits(), image, wav, values)

    return take


def wait_for_end(job: Job) -> Job:
    for _ in range(500):
        if job.has_ended:
            return job
        time.sleep(0.02)
    raise AssertionError(f"still {job.state}")


def refused(workshop: Workshop) -> RefusedError:
    with pytest.raises(RefusedError) as refusal:
        workshop.check_open()
    return refusal.value


def test_states_of_a_job(open_workshop: Any, order: Any, pipeline: Silent, clock: Clock) -> None:
    workshop = open_workshop(job_seconds=60)
    assert workshop.is_ready
    assert not workshop.is_busy
    pipeline.may_go_on.clear()
    first, second = (workshop.submit(order()) for _ in range(2))
    assert pipeline.is_at_work.wait(10)
    assert (first.state, second.state) == ("running", "queued")
    assert (first.started, first.deadline) == (1000, 1060)
    assert (workshop.place(first), workshop.place(second)) == (0, 1)
    assert workshop.is_busy
    pipeline.may_go_on.set()
    assert wait_for_end(first).state == wait_for_end(second).state == "done"
    assert not workshop.is_busy
    assert {path.name for path in first.folder.iterdir()} == {"clip.mp4", "report.json", "plot.png"}


def test_when_to_come_again_is_told_from_the_pace(
    open_workshop: Any, order: Any, pipeline: Silent, clock: Clock
) -> None:
    workshop = open_workshop(queue=0)
    assert refused(workshop).retry_after == 1, "nothing is being made"
    workshop = open_workshop(queue=1)
    pipeline.may_go_on.clear()
    workshop.submit(order())
    assert pipeline.is_at_work.wait(10)
    workshop.submit(order())
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
        pipeline.is_at_work.clear()
        job = workshop.submit(order())
        assert pipeline.is_at_work.wait(10)
        clock.now += seconds
        pipeline.may_go_on.set()
        wait_for_end(job)
    pipeline.may_go_on.clear()
    pipeline.is_at_work.clear()
    workshop.submit(order(length="1"))  # 24 frames, 18 s
    assert pipeline.is_at_work.wait(10)
    workshop.submit(order())
    clock.now += 2.5
    assert refused(workshop).retry_after == 16
    assert str(refused(workshop)) == "1 clips are waiting, more are not taken; try again in 16 s"


def test_a_workshop_that_is_stopping_is_not_ready(
    open_workshop: Any, order: Any, pipeline: Silent
) -> None:
    workshop = open_workshop(grace_seconds=4.5)
    pipeline.may_go_on.clear()
    running, queued = (workshop.submit(order()) for _ in range(2))
    assert pipeline.is_at_work.wait(10)
    stopping = Thread(target=workshop.stop, args=(10,))
    stopping.start()
    assert wait_for_end(queued).state == "cancelled"
    assert queued.error == "the server is stopping; order it again"
    assert workshop.is_busy
    assert not workshop.is_ready
    assert (refused(workshop).reason, refused(workshop).retry_after) == ("stopping", 6)
    pipeline.may_go_on.set()
    stopping.join(10)
    assert running.state == "done", "it had the time"
    assert not workshop.is_ready


def test_pictures_are_decoded_one_at_a_time(
    open_workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    most: list[int] = []

    def slow(*_: object) -> str:
        at_once.append(1)
        most.append(len(at_once))
        time.sleep(0.02)
        at_once.pop()
        return "taken"

    monkeypatch.setattr(workshop_module, "take_order", slow)

    async def take_three(workshop: Workshop) -> list[object]:
        return await asyncio.gather(*(workshop.take(None, None, {}) for _ in range(3)))  # type: ignore[arg-type]

    assert asyncio.run(take_three(open_workshop())) == ["taken"] * 3
    assert most == [1, 1, 1]


@pytest.mark.parametrize(("passed", "is_kept"), [(59, True), (61, False)])
def test_results_are_kept_as_long_as_was_said(
    open_workshop: Any, order: Any, clock: Clock, passed: int, is_kept: bool
) -> None:
    workshop = open_workshop(keep_seconds=60)
    job = wait_for_end(workshop.submit(order()))
    clock.now += passed
    workshop.discard_old()
    assert (workshop.find(job.id) is not None) == job.folder.exists() == is_kept


@pytest.mark.parametrize(("length", "is_taken"), [("2", True), ("2.04", True), ("2.05", False)])
def test_a_frame_more_than_the_limit_is_taken(
    pipeline: Silent, length: str, is_taken: bool
) -> None:
    """As sounds are seldom whole numbers of frames: 2 s and 1/24 of one."""
    with (EXAMPLES / "drum.png").open("rb") as image, (EXAMPLES / "drum.wav").open("rb") as audio:
        expected = nullcontext() if is_taken else pytest.raises(SettingsError, match="2 s at most")
        with expected:
            take_order(pipeline, Limits(seconds=2.0), image, audio, {"length": length})
