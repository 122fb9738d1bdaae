"""The register, and a store that says what the test has it say."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from keyvid.serve.job import Job
from keyvid.serve.job_folder import JobFolder
from keyvid.serve.metrics import Metrics
from keyvid.serve.register import Register
from keyvid.serve.scheduling import Rules
from keyvid.serve.store import Row, Store

CREATED = 1000.0
ROW = Row(
    id="a",
    state="queued",
    stamp=1,
    client="me",
    summary={},
    outcome=None,
    executor="local-0",
    started=None,
    ended=None,
)


class Told:
    """A store with one order.

    Attributes:
        row: of that order.
    """

    def __init__(self) -> None:
        self.row = ROW

    def live(self) -> list[Row]:
        return [self.row] if self.row.state in ("queued", "running") else []

    def find(self, ids: list[str]) -> list[Row]:
        return [self.row] if self.row.id in ids else []

    def all_since(self, _: float) -> list[Row]:
        return [self.row]


class Clock:
    """Seconds since whenever, as the test says."""

    now = CREATED

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Told:
    return Told()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = JobFolder(tmp_path / "jobs" / "a")
    folder.path.mkdir(parents=True)
    return Job("a", folder, "me", "", 1.0, 48, (), "", 1, CREATED)


@pytest.fixture
def make(store: Told, clock: Clock, tmp_path: Path) -> Callable[..., Register]:
    """`make(waiting=1)`: a register that looks only when it is asked to."""

    def make_it(waiting: int = 8) -> Register:
        metrics = Metrics()
        jobs = tmp_path / "jobs"
        return Register(Rules(waiting), jobs, cast(Store, store), metrics, clock)

    return make_it


def with_job(register: Register, job: Job) -> Register:
    register.join(job.id, job.client, job.work)
    register.add(job)
    return register


def see(register: Register, store: Told, clock: Clock, seconds: float, **row: Any) -> None:
    """What the store says at a time after the order."""
    clock.now = CREATED + seconds
    store.row = replace(store.row, **row)
    register.look()


def ended(seconds: float, **outcome: Any) -> dict[str, Any]:
    """What a row has of a clip that was done so long after the order."""
    told = {"ended": CREATED + seconds, "timings": {}, "remarks": [], "error": "", **outcome}
    return {"state": "done", "outcome": told}


def test_a_clip_that_is_begun_twice_has_waited_for_the_first_beginning(
    make: Any, store: Told, clock: Clock, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    register = with_job(make(), job)
    see(register, store, clock, 5, state="running", started=CREATED + 5)
    see(register, store, clock, 20, state="queued")
    see(register, store, clock, 30, state="running", started=CREATED + 30)
    assert job.started == CREATED + 5
    with caplog.at_level(logging.INFO, "keyvid.serve.logbook"):
        see(register, store, clock, 40, **ended(40, started=CREATED + 30))
    (line,) = [record for record in caplog.records if record.getMessage() == "job"]
    fields = cast(Any, line).fields
    assert (fields["waited"], fields["seconds"]) == (5, 35)


def test_so_it_is_after_a_restart(make: Any, store: Told, clock: Clock, job: Job) -> None:
    """Of the front and of the worker: the folder of the job knows."""
    job.folder.begin_attempt("run", CREATED + 5)
    job.folder.begin_attempt("next run", CREATED + 50)
    register = with_job(make(), job)
    see(register, store, clock, 60, state="running", started=CREATED + 50)
    assert job.started == CREATED + 5


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 100), (2, 10)])
def test_the_pace_is_not_that_of_interrupted_clips(
    make: Any, store: Told, clock: Clock, job: Job, attempts: int, seconds: int
) -> None:
    """A server may have been away for days in between."""
    register = with_job(make(waiting=1), job)
    see(register, store, clock, 0, state="running", started=CREATED)
    see(register, store, clock, 100, **ended(100, started=CREATED, attempts=attempts))
    with_job(register, replace(job, id="b", state="queued", started=None))
    see(register, store, clock, 100, id="b", state="running", started=CREATED + 100, outcome=None)
    register.join("c", "me", 1.0)
    refusal = register.refusal("me", 1)
    assert refusal
    assert refusal.retry_after == seconds, "10 s are a first guess"
