"""The workshop: takes orders, keeps them, and knows how far they are; workers make them."""

import base64
import hmac
import logging
import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, RLock, Thread
from typing import IO, Any, Protocol

from anyio import to_thread

from keyvid.bundle.manifest import Bundle
from keyvid.errors import KeyvidError
from keyvid.file_safety import temporary_file
from keyvid.serve import logbook
from keyvid.serve.job import Job
from keyvid.serve.job_folder import JobFolder
from keyvid.serve.limits import Limits
from keyvid.serve.metrics import Metrics
from keyvid.serve.order import Order, take_order
from keyvid.serve.scheduling import Line, Pace, Refusal, Rules, work_of
from keyvid.serve.store import Row, Store, StoreError
from keyvid.serve.turns import Turns
from keyvid.serve.webhook import check_url
from keyvid.serve.work import Watch

Clock = Callable[[], float]

_LOOK_SECONDS = 0.1  # after which the store is asked what has changed, while there are orders
_IDLE_LOOK_SECONDS = 5.0
_REMEMBER_SECONDS = 7 * 86400.0  # that a job was there, after its files are deleted
_OLD_ROWS = 100  # that are forgotten at a time
_LEAST_AGO_SECONDS = 2.0  # SQLite tells whole seconds; what is later was begun since the last look
_LINGER_SECONDS = 60.0  # in which a worker has noticed that its job is cancelled

log = logging.getLogger(__name__)


class RefusedError(KeyvidError):
    """An order is not taken now.

    Attributes:
        reason: "queue", "client", "stopping", "store", "disk" or "twice".
        retry_after: whole seconds after which to ask again.
    """

    def __init__(self, reason: str, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = max(math.ceil(retry_after), 1)


class Workers(Protocol):
    """Those who make the clips."""

    @property
    def num_workers(self) -> int:
        """How many clips they make at a time."""

    @property
    def is_ready(self) -> bool:
        """Whether one of them is there."""

    def stop(self, grace_seconds: float) -> None:
        """Begin nothing more, and end what is begun in that time; the rest stays in the store."""


class Workshop:
    """Takes orders and knows what became of them; methods may be called from any thread.

    Args:
        jobs: where the folders of the jobs lie.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        bundle: Bundle,
        limits: Limits,
        jobs: Path,
        store: Store,
        workers: Workers,
        metrics: Metrics,
        clock: Clock = time.time,
        *,
        allow_private_webhooks: bool = False,
    ) -> None:
        self.bundle = bundle
        self.limits = limits
        self.metrics = metrics
        self.clock = clock
        self._folder = jobs
        self._store = store
        self._workers = workers
        self._lock = RLock()
        self._jobs: dict[str, Job] = {}
        self._line = Line(Rules(limits.queue, limits.queue_of_one))
        self._pace = Pace()
        self._watch_of_workers = Watch(jobs.parent)
        self._discarded: dict[str, float] = {}  # that a worker may still be at, and since when
        self._fault = ""  # of the store
        self._is_stopping = False
        self._changed = Event()
        self._is_over = Event()
        self._thread = Thread(target=self._watch, name="workshop", daemon=True)
        self.turns = Turns()
        self._allow_private_webhooks = allow_private_webhooks
        self._secret = b""
        metrics.watch("keyvid_queue_length", "Clips that wait", lambda: len(self._line.waiting))
        metrics.watch("keyvid_running", "Clips in the making", lambda: len(self._line.running))
        metrics.watch("keyvid_jobs_kept", "Jobs that are known", lambda: len(self._jobs))

    def start(self) -> None:
        """Take up what was there, and begin to watch it.

        Raises:
            StoreError: the store does not answer.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._secret = _secret_in(self._folder.with_name("secret"))
        rows = self._store.all_since(self.clock() - self.limits.keep_seconds)
        jobs = [(job, row) for row in rows if (job := self._job_of(row))]
        # SQLite tells whole seconds of when they came, we tell more.
        for job, row in sorted(jobs, key=lambda pair: pair[0].created):
            self._jobs[job.id] = job
            if row.state in ("queued", "running"):
                self._line.rejoin(job.id, job.client, job.work, row.stamp)
            else:
                job.end(row)
        self._sweep()
        if self._line.waiting:
            log.info("%d clips are gone on with", len(self._line.waiting))
        self._thread.start()

    def stop(self, grace_seconds: float = 0.0) -> None:
        """Take no more orders, and let what is being made end in that time; the rest is kept."""
        self._is_stopping = True
        self._workers.stop(grace_seconds)
        if self._thread.is_alive():
            self._look()  # what has just ended
            self._is_over.set()
            self._changed.set()
            self._thread.join()

    @property
    def is_over(self) -> bool:
        """Whether nothing more becomes of the jobs until the next start."""
        return self._is_over.is_set()

    @property
    def is_ready(self) -> bool:
        """Whether orders will be made."""
        return not self.why_not_ready

    @property
    def why_not_ready(self) -> str:
        """In words, "" where orders will be made."""
        if self._is_stopping:
            return "the server is stopping"
        if not self._thread.is_alive():
            return "the server is starting"
        return self._fault or ("" if self._workers.is_ready else "there is no worker")

    @property
    def is_busy(self) -> bool:
        """Whether a clip is in the making."""
        return bool(self._line.running)

    async def take(self, image: IO[bytes], audio: IO[bytes], values: Mapping[str, Any]) -> Order:
        """`take_order` in a thread; to be called in one of `turns`."""
        take = partial(take_order, self.bundle, self.limits, image, audio, values)
        return await to_thread.run_sync(take)

    def check_open(self, client: str) -> None:
        """Refuse orders that could not be taken now.

        Raises:
            RefusedError: says when to come again.
        """
        if self._is_stopping:
            message = "the server is stopping; try again when it is back"
            self._refuse("stopping", message, self.limits.grace_seconds + 1)
        if self._fault:
            self._refuse("store", f"{self._fault}; try again later", 10)
        refusal = self._refusal(client)
        if refusal and self._thread.is_alive():
            self._look()  # what was waiting a moment ago may have been begun
            refusal = self._refusal(client)
        if refusal:
            retry_after = max(math.ceil(refusal.retry_after), 1)
            whose = " of yours" if refusal.reason == "client" else ""
            message = (
                f"{refusal.num_waiting} clips{whose} are waiting, more are not taken; "
                f"try again in {retry_after} s"
            )
            self._refuse(refusal.reason, message, retry_after)

    def check_webhook(self, url: str) -> None:
        """Refuse what no webhook may be sent to.

        Raises:
            SettingsError: says what is wrong with it.
        """
        if url:
            check_url(url, self._allow_private_webhooks)

    def submit(
        self, order: Order, client: str, digest: str = "", job_id: str = "", webhook: str = ""
    ) -> Job:
        """A job for `order`, at its place in the line, kept whatever happens.

        Args:
            digest: of all that was ordered.
            webhook: where to tell when it has ended, "" for nowhere.
            job_id: "" for a new one.
        Raises:
            RefusedError: as `check_open`, or it cannot be kept.
        """
        prepared = order.prepared
        job_id = job_id or secrets.token_urlsafe(12)
        job = Job(
            id=job_id,
            folder=JobFolder(self._folder / job_id),
            client=client,
            digest=digest,
            work=self._work_of(order),
            num_frames=prepared.inputs.num_frames,
            remarks=prepared.remarks,
            prompt=prepared.prompt,
            scale=order.scale,
            created=self.clock(),
            webhook=webhook,
        )
        with self._lock:
            if job_id in self._line or job_id in self._jobs:
                self._refuse("twice", "the same order is being taken; ask again for it", 1)
            self.check_open(client)
            place = self._line.join(job_id, client, job.work)
        try:
            job.folder.create(order, self.bundle)
            self._store.put(job_id, place.stamp, client, job.summary)
        except (OSError, StoreError) as error:
            # Should the store have taken it all the same, its worker finds no order.
            job.folder.remove()
            with self._lock:
                self._line.leave(job_id)
            self._refuse_after(error)
        with self._lock:
            self._jobs[job_id] = job
        self._changed.set()
        return job

    def id_of(self, client: str, key: str) -> str:
        """The id of the job that a client knows by a key; nobody else can tell it."""
        digest = hmac.digest(self._secret, f"{client}\0{key}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest[:12]).decode()

    def find(self, job_id: str) -> Job | None:
        """The job of that id, None where there is none (any more)."""
        return self._jobs.get(job_id)

    def was_there(self, job_id: str) -> bool:
        """Whether there was a job of that id, whose files were kept long enough.

        Raises:
            RefusedError: the store does not answer.
        """
        try:
            return any(row.state != "cancelled" for row in self._store.find([job_id]))
        except StoreError as error:
            self._refuse_after(error)
            return False

    @property
    def jobs(self) -> list[Job]:
        """All that are known, the first that was ordered first."""
        with self._lock:
            return [*self._jobs.values()]

    def page(
        self, client: str, limit: int, after: str | None = None, *, newest_first: bool = True
    ) -> tuple[list[Job], bool]:
        """Some jobs of a client, and whether there are more.

        Args:
            after: the last one that was seen.
        """
        jobs = [job for job in self.jobs if job.client == client]
        if newest_first:
            jobs.reverse()
        if after is not None:
            ids = [job.id for job in jobs]
            jobs = jobs[ids.index(after) + 1 :] if after in ids else []
        return jobs[:limit], len(jobs) > limit

    def expires(self, job: Job) -> float | None:
        """When the files of a job are deleted, seconds since 1970; None before it has ended."""
        return round(job.ended + self.limits.keep_seconds, 3) if job.ended else None

    def place(self, job: Job) -> int:
        """How many clips are made before that of a queued job."""
        with self._lock:
            return self._line.num_before(job.id)

    def discard(self, job: Job) -> None:
        """Cancel a job if it has not ended, and delete what there is of it.

        Raises:
            RefusedError: the store does not answer.
        """
        job.folder.cancel()
        try:
            if job.state == "running":  # whose worker still asks for it
                self._store.cancel(job.id)
            else:
                self._store.forget([job.id])
        except StoreError as error:
            self._refuse_after(error)
        with self._lock:
            if self._jobs.pop(job.id, None) is None:
                return
            was_running = job.state == "running"
            if not job.has_ended:
                self._line.leave(job.id)
                job.ended, job.state, job.error = self.clock(), "cancelled", "cancelled"
                self._note_end(job)
        if was_running:
            self._discarded[job.id] = self.clock()  # its worker tidies up
        else:
            job.folder.remove()

    def discard_old(self) -> None:
        """Delete what has been kept long enough."""
        now = self.clock()
        oldest = now - self.limits.keep_seconds
        for job in self.jobs:
            if job.ended is not None and job.has_ended and job.ended < oldest:
                job.folder.remove()
                with self._lock:
                    self._jobs.pop(job.id, None)
        for job_id, since in [*self._discarded.items()]:
            if since < now - _LINGER_SECONDS:
                JobFolder(self._folder / job_id).remove()
                with suppress(StoreError):
                    self._store.forget([job_id])
                    del self._discarded[job_id]
        with suppress(StoreError):
            self._store.forget(self._store.old(oldest - _REMEMBER_SECONDS, _OLD_ROWS))

    def _job_of(self, row: Row) -> Job | None:
        try:
            return Job.of_row(row, JobFolder(self._folder / row.id))
        except (LookupError, TypeError):
            log.warning("job %s: is in the store in a form that is not known", row.id)
            return None

    def _sweep(self) -> None:
        """Delete folders of which the store knows nothing, or only that they were there."""
        left = [path for path in self._folder.iterdir() if path.name not in self._jobs]
        for path in left:
            JobFolder(path).remove()

    def _work_of(self, order: Order) -> float:
        prepared, sampling = order.prepared, order.prepared.sampling
        num_segments = prepared.inputs.num_frames / self.bundle.dimensions.frames
        return work_of(num_segments, sampling.generator.steps, sampling.interpolator.steps)

    def _refusal(self, client: str) -> Refusal | None:
        with self._lock:
            seconds_left = [self._seconds_left(self._jobs[name]) for name in self._line.running]
            return self._line.refusal(client, seconds_left, self._workers.num_workers, self._pace)

    def _refuse(self, reason: str, message: str, retry_after: float) -> None:
        self.metrics.refused.labels(reason).inc()
        raise RefusedError(reason, message, retry_after)

    def _refuse_after(self, error: Exception) -> None:
        if isinstance(error, StoreError):
            self._refuse("store", f"{error}; try again later", 10)
        reason = getattr(error, "strerror", None) or error
        log.error("orders cannot be kept in %s: %s", self._folder, reason)
        self._refuse("disk", f"orders cannot be kept now: {reason}; try again later", 60)

    def _seconds_left(self, job: Job) -> float:
        """Until a running clip is probably done; told from the pace where it says nothing."""
        if job.seconds_left is not None:
            return job.seconds_left
        return self._pace.seconds(job.work) - (self.clock() - (job.started or self.clock()))

    def _watch(self) -> None:
        while not self._is_over.is_set():
            try:
                self._look()
            except Exception:
                log.exception("watching the store")
            live = self._line.waiting or self._line.running
            self._changed.wait(_LOOK_SECONDS if live else _IDLE_LOOK_SECONDS)
            self._changed.clear()

    def _look(self) -> None:
        """Take note of what has become of the orders."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if not job.has_ended]
        try:
            rows = {row.id: row for row in self._store.live()}
            gone = [job.id for job in jobs if job.id not in rows]
            ended = {row.id: row for row in self._store.find(gone)}
        except StoreError as error:
            if not self._fault and not self._is_over.is_set():
                log.error("%s", error)
            self._fault = str(error)
            return
        self._fault = ""
        for job in jobs:
            with self._lock:
                if job.id in self._jobs:
                    self._take_note(job, rows.get(job.id) or ended.get(job.id))

    def _take_note(self, job: Job, row: Row | None) -> None:
        if row is None:
            job.ended, job.state, job.error = self.clock(), "failed", "the store has lost it"
        elif row.state == "queued":
            if job.state == "running":  # its worker has ended
                self._line.wait_again(job.id)
            job.state = "queued"
            return
        elif row.state == "running":
            if self._watch_of_workers.is_gone(row.executor, self.clock()):
                log.warning("job %s: %s is gone, another worker goes on", job.id, row.executor)
                with suppress(StoreError):  # then at the next look
                    self._store.requeue(job.id)
            job.progress = job.folder.progress
            if job.state == "queued":
                self._line.begin(job.id)
                job.started = self._start_of(row)
                job.state = "running"
                self.metrics.queue_seconds.observe(max(job.started - job.created, 0.0))
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
        """When a clip was begun that is found to be running."""
        now = self.clock()
        if row.started is None or row.started > now - _LEAST_AGO_SECONDS:
            return now
        return row.started

    def _count(self, job: Job, row: Row) -> None:
        if job.state != "done" or job.started is None or job.ended is None:
            return
        self._pace.learn(job.work, job.ended - job.started)
        self.metrics.clip_seconds.observe(job.ended - job.started)
        for stage, taken in (row.outcome or {}).get("timings", {}).items():
            self.metrics.stage_seconds.labels(stage).inc(taken)

    def _note_end(self, job: Job) -> None:
        self.metrics.clips.labels(job.state).inc()
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


def _secret_in(file: Path) -> bytes:
    """What a file holds that only this server knows, made where there is none."""
    if not file.exists():
        with temporary_file(file.parent) as (opened, temporary):
            os.fchmod(opened.fileno(), 0o600)
            opened.write(secrets.token_bytes(32))
            opened.close()
            temporary.rename(file)
    return file.read_bytes()
