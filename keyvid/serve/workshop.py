"""The workshop: takes orders, keeps them, and deletes what was kept; workers make them."""

import base64
import hmac
import logging
import math
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from anyio import to_thread

from keyvid.bundle.manifest import Bundle
from keyvid.counting import counted
from keyvid.errors import KeyvidError
from keyvid.serve.job import Job
from keyvid.serve.job_folder import JobFolder
from keyvid.serve.limits import Limits
from keyvid.serve.metrics import Metrics
from keyvid.serve.order import Order, take_order
from keyvid.serve.register import Clock, Register
from keyvid.serve.scheduling import Rules, work_of
from keyvid.serve.secret_file import secret_in
from keyvid.serve.store import Store, StoreError
from keyvid.serve.turns import Turns
from keyvid.serve.webhook import check_url

_REMEMBER_SECONDS = 7 * 86400.0  # that a job was there, after its files are deleted
_OLD_ROWS = 100  # that are forgotten at a time
_ID_BYTES = 12
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
        rules = Rules(limits.queue, limits.queue_of_one)
        self._register = Register(rules, jobs, store, metrics, clock)
        self._discarded: dict[str, float] = {}  # that a worker may still be at, and since when
        self._is_stopping = False
        self.turns = Turns()
        self._allow_private_webhooks = allow_private_webhooks
        self._secret = b""

    def start(self) -> None:
        """Take up what was there, and begin to watch it.

        Raises:
            StoreError: the store does not answer.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._secret = secret_in(self._folder.with_name("secret"), partial(secrets.token_bytes, 32))
        self._register.start(self.clock() - self.limits.keep_seconds)
        self._sweep()

    def stop(self, grace_seconds: float = 0.0) -> None:
        """Take no more orders, and let what is being made end in that time; the rest is kept."""
        self._is_stopping = True
        self._workers.stop(grace_seconds)
        self._register.stop()

    @property
    def is_over(self) -> bool:
        """Whether nothing more becomes of the jobs until the next start."""
        return self._register.is_over

    @property
    def is_ready(self) -> bool:
        """Whether orders will be made."""
        return not self.why_not_ready

    @property
    def why_not_ready(self) -> str:
        """In words, "" where orders will be made."""
        if self._is_stopping:
            return "the server is stopping"
        if not self._register.is_watching:
            return "the server is starting"
        return self._register.fault or ("" if self._workers.is_ready else "there is no worker")

    @property
    def is_busy(self) -> bool:
        """Whether a clip is in the making."""
        return self._register.is_busy

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
        if self._register.fault:
            self._refuse("store", f"{self._register.fault}; try again later", 10)
        refusal = self._register.refusal(client, self._workers.num_workers)
        if refusal and self._register.is_watching:
            self._register.look()  # what was waiting a moment ago may have been begun
            refusal = self._register.refusal(client, self._workers.num_workers)
        if refusal:
            retry_after = max(math.ceil(refusal.retry_after), 1)
            clips = counted(refusal.num_waiting, "clip")
            whose = " of yours" if refusal.reason == "client" else ""
            message = (
                f"the queue has no room for more than {clips}{whose}; try again in {retry_after} s"
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
        job_id = job_id or id_of_bytes(secrets.token_bytes(_ID_BYTES))
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
        with self._register.lock:
            if job_id in self._register:
                self._refuse("twice", "the same order is being taken; ask again for it", 1)
            self.check_open(client)
            place = self._register.join(job_id, client, job.work)
        try:
            job.folder.create(order, self.bundle)
            self._store.put(job_id, place.stamp, client, job.summary)
        except (OSError, StoreError) as error:
            # Should the store have taken it all the same, its worker finds no order.
            job.folder.remove()
            self._register.leave(job_id)
            self._refuse_after(error)
        self._register.add(job)
        return job

    def id_of(self, client: str, key: str) -> str:
        """The id of the job that a client knows by a key; nobody else can tell it."""
        digest = hmac.digest(self._secret, f"{client}\0{key}".encode(), "sha256")
        return id_of_bytes(digest[:_ID_BYTES])

    def find(self, job_id: str) -> Job | None:
        """The job of that id, None where there is none (any more)."""
        return self._register.find(job_id)

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
        return self._register.jobs

    def page(
        self, client: str, limit: int, after: str | None = None, *, newest_first: bool = True
    ) -> tuple[list[Job], bool]:
        """Some jobs of a client, and whether there are more.

        Args:
            after: the last one that was seen.
        Raises:
            LookupError: that one is not known, or no longer.
        """
        jobs = [job for job in self.jobs if job.client == client]
        if newest_first:
            jobs.reverse()
        if after is not None:
            ids = [job.id for job in jobs]
            if after not in ids:
                raise LookupError(after)
            jobs = jobs[ids.index(after) + 1 :]
        return jobs[:limit], len(jobs) > limit

    def expires(self, job: Job) -> float | None:
        """When the files of a job are deleted, seconds since 1970; None before it has ended."""
        return round(job.ended + self.limits.keep_seconds, 3) if job.ended else None

    def place(self, job: Job) -> int:
        """How many clips are made before that of a queued job."""
        return self._register.place(job)

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
        state = self._register.drop(job)
        if state == "running":
            self._discarded[job.id] = self.clock()  # its worker tidies up
        elif state is not None:
            job.folder.remove()

    def discard_old(self) -> None:
        """Delete what has been kept long enough."""
        now = self.clock()
        oldest = now - self.limits.keep_seconds
        for job in self.jobs:
            if job.ended is not None and job.has_ended and job.ended < oldest:
                job.folder.remove()
                self._register.drop(job)
        for job_id, since in [*self._discarded.items()]:
            if since < now - _LINGER_SECONDS:
                JobFolder(self._folder / job_id).remove()
                with suppress(StoreError):
                    self._store.forget([job_id])
                    del self._discarded[job_id]
        with suppress(StoreError):
            self._store.forget(self._store.old(oldest - _REMEMBER_SECONDS, _OLD_ROWS))

    def _sweep(self) -> None:
        """Delete folders of which the store knows nothing, or only that they were there."""
        left = [path for path in self._folder.iterdir() if not self._register.find(path.name)]
        for path in left:
            JobFolder(path).remove()

    def _work_of(self, order: Order) -> float:
        prepared, sampling = order.prepared, order.prepared.sampling
        num_segments = prepared.inputs.num_frames / self.bundle.dimensions.frames
        return work_of(num_segments, sampling.generator.steps, sampling.interpolator.steps)

    def _refuse(self, reason: str, message: str, retry_after: float) -> None:
        self.metrics.refused.labels(reason).inc()
        raise RefusedError(reason, message, retry_after)

    def _refuse_after(self, error: Exception) -> None:
        if isinstance(error, StoreError):
            self._refuse("store", f"{error}; try again later", 10)
        reason = getattr(error, "strerror", None) or error
        log.error("orders cannot be kept in %s: %s", self._folder, reason)
        self._refuse("disk", f"orders cannot be kept now: {reason}; try again later", 60)


def id_of_bytes(content: bytes) -> str:
    """The id of a job, as long as 4/3 of `content`: never with a - in front, as options have."""
    name = base64.urlsafe_b64encode(content).decode()
    return f"A{name[1:]}" if name.startswith("-") else name
