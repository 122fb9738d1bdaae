"""The register: the jobs that are known, where they stand, and what the store says of them."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, RLock, Thread

from keyvid.counting import counted
from keyvid.serve import logbook
from keyvid.serve.job import Job, State
from keyvid.serve.job_folder import JobFolder
from keyvid.serve.metrics import Metrics
from keyvid.serve.scheduling import Line, Pace, Place, Refusal, Rules
from keyvid.serve.store import Row, Store, StoreError
from keyvid.serve.work import Watch

Clock = Callable[[], float]

_LOOK_SECONDS = 0.1  # after which the store is asked what has changed, while there are orders
_IDLE_LOOK_SECONDS = 5.0
_LEAST_AGO_SECONDS = 2.0  # SQLite tells whole seconds; what is later was begun since the last look

log = logging.getLogger(__name__)


class Register:
    """Knows the jobs and watches the store; methods may be called from any thread.

    Args:
        rules: of what may wait.
        jobs: where the folders of the jobs lie.
        clock: seconds since 1970.
    Attributes:
        lock: for who looks at it and then changes it.
        fault: of the store when it was asked last, "" for none.
    """

    def __init__(
        self, rules: Rules, jobs: Path, store: Store, metrics: Metrics, clock: Clock = time.time
    ) -> None:
        self.lock = RLock()
        self.fault = ""
        self._clock = clock
        self._folder = jobs
        self._store = store
        self._metrics = metrics
        self._jobs: dict[str, Job] = {}
        self._line = Line(rules)
        self._pace = Pace()
        self._watch_of_workers = Watch(jobs.parent)
        self._changed = Event()
        self._is_over = Event()
        self._thread = Thread(target=self._watch, name="register", daemon=True)
        metrics.watch("keyvid_queue_length", "Clips that wait", lambda: len(self._line.waiting))
        metrics.watch("keyvid_running", "Clips in the making", lambda: len(self._line.running))
        metrics.watch("keyvid_jobs_kept", "Jobs that are known", lambda: len(self._jobs))

    def start(self, since: float) -> None:
        """Take up the jobs that are in the store, and begin to watch it.

        Args:
            since: seconds since 1970; those that ended before are no longer known.
        Raises:
            StoreError: it does not answer.
        """
        rows = self._store.all_since(since)
        jobs = [(job, row) for row in rows if (job := self._job_of(row))]
        # SQLite tells whole seconds of when they came, we tell more.
        for job, row in sorted(jobs, key=lambda pair: pair[0].created):
            self._jobs[job.id] = job
            if row.state in ("queued", "running"):
                self._line.rejoin(job.id, job.client, job.work, row.stamp)
            else:
                job.end(row)
        if self._line.waiting:
            log.info("goes on with %s", counted(len(self._line.waiting), "clip"))
        self._thread.start()

    def stop(self) -> None:
        """Take note of what has just ended, and watch no more."""
        if self._thread.is_alive():
            self.look()
            self._is_over.set()
            self._changed.set()
            self._thread.join()

    @property
    def is_watching(self) -> bool:
        """Whether it is between its start and its end."""
        return self._thread.is_alive()

    @property
    def is_over(self) -> bool:
        """Whether nothing more becomes of the jobs until the next start."""
        return self._is_over.is_set()

    @property
    def is_busy(self) -> bool:
        """Whether a clip is in the making."""
        return bool(self._line.running)

    @property
    def jobs(self) -> list[Job]:
        """All that are known, the first that was ordered first."""
        with self.lock:
            return [*self._jobs.values()]

    def find(self, job_id: str) -> Job | None:
        """The job of that id, None where there is none (any more)."""
        return self._jobs.get(job_id)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._line or job_id in self._jobs

    def place(self, job: Job) -> int:
        """How many clips are made before that of a queued job."""
        with self.lock:
            return self._line.num_before(job.id)

    def refusal(self, client: str, num_workers: int) -> Refusal | None:
        """Why an order of `client` is not taken now, None where it is."""
        with self.lock:
            seconds_left = [self._seconds_left(self._jobs[name]) for name in self._line.running]
            return self._line.refusal(client, seconds_left, num_workers, self._pace)

    def join(self, job_id: str, client: str, work: float) -> Place:
        """A place in the line for a job that is about to be put into the store."""
        with self.lock:
            return self._line.join(job_id, client, work)

    def leave(self, job_id: str) -> None:
        """Give back the place of a job that could not be put into the store."""
        with self.lock:
            self._line.leave(job_id)

    def add(self, job: Job) -> None:
        """Know a job that is in the store, at the place that it has."""
        with self.lock:
            self._jobs[job.id] = job
        self._changed.set()

    def drop(self, job: Job) -> State | None:
        """Know a job no more, which is cancelled by that if it has not ended.

        Returns:
            The state that it had, None where it was not known.
        """
        with self.lock:
            if self._jobs.pop(job.id, None) is None:
                return None
            state = job.state
            if not job.has_ended:
                self._line.leave(job.id)
                job.ended, job.state, job.error = self._clock(), "cancelled", "cancelled"
                self._note_end(job)
            return state

    def _job_of(self, row: Row) -> Job | None:
        try:
            return Job.of_row(row, JobFolder(self._folder / row.id))
        except (LookupError, TypeError):
            log.warning("job %s: is in the store in a form that is not known", row.id)
            return None

    def _seconds_left(self, job: Job) -> float:
        """Until a running clip is probably done; told from the pace where it says nothing."""
        if job.seconds_left is not None:
            return job.seconds_left
        return self._pace.seconds(job.work) - (self._clock() - (job.started or self._clock()))

    def _watch(self) -> None:
        while not self._is_over.is_set():
            try:
                self.look()
            except Exception:
                log.exception("watching the store")
            live = self._line.waiting or self._line.running
            self._changed.wait(_LOOK_SECONDS if live else _IDLE_LOOK_SECONDS)
            self._changed.clear()

    def look(self) -> None:
        """Take note of what has become of the orders."""
        with self.lock:
            jobs = [job for job in self._jobs.values() if not job.has_ended]
        try:
            rows = {row.id: row for row in self._store.live()}
            gone = [job.id for job in jobs if job.id not in rows]
            ended = {row.id: row for row in self._store.find(gone)}
        except StoreError as error:
            if not self.fault and not self._is_over.is_set():
                log.error("%s", error)
            self.fault = str(error)
            return
        self.fault = ""
        for job in jobs:
            with self.lock:
                if job.id in self._jobs:
                    self._take_note(job, rows.get(job.id) or ended.get(job.id))

    def _take_note(self, job: Job, row: Row | None) -> None:
        if row is None:
            job.ended, job.state, job.error = self._clock(), "failed", "the store has lost it"
        elif row.state == "queued":
            if job.state == "running":  # its worker has ended
                self._line.wait_again(job.id)
            job.state = "queued"
            return
        elif row.state == "running":
            if self._watch_of_workers.is_gone(row.executor, self._clock()):
                log.warning("job %s: %s is gone, another worker goes on", job.id, row.executor)
                with suppress(StoreError):  # then at the next look
                    self._store.requeue(job.id)
            job.progress = job.folder.progress
            if job.state == "queued":
                self._line.begin(job.id)
                job.state = "running"
                if job.started is None:
                    job.started = job.folder.begun or self._start_of(row)
                    self._metrics.queue_seconds.observe(max(job.started - job.created, 0.0))
            return
        else:
            job.progress = job.folder.progress
            job.end(row)
            if job.id not in self._line.running and job.state == "done":
                self._line.begin(job.id)  # it was made between two looks
            self._count(job, row)
        self._line.leave(job.id)
        self._note_end(job)

    def _start_of(self, row: Row) -> float:
        """When a clip was begun that is found to be running, as far as the store knows."""
        now = self._clock()
        if row.started is None or row.started > now - _LEAST_AGO_SECONDS:
            return now
        return row.started

    def _count(self, job: Job, row: Row) -> None:
        if job.state != "done" or job.started is None or job.ended is None:
            return
        if (row.outcome or {}).get("attempts", 1) == 1:
            self._pace.learn(job.work, job.ended - job.started)
        self._metrics.clip_seconds.observe(job.ended - job.started)
        for stage, taken in (row.outcome or {}).get("timings", {}).items():
            self._metrics.stage_seconds.labels(stage).inc(taken)

    def _note_end(self, job: Job) -> None:
        self._metrics.clips.labels(job.state).inc()
        started, ended = job.started, job.ended
        logbook.note(
            "job",
            id=job.id,
            client=job.client,
            state=job.state,
            waited=round(started - job.created, 3) if started else None,
            seconds=round(ended - started, 3) if started and ended else None,
            error=job.error or None,
        )
