"""The workshop: jobs wait in a line, and one thread makes them one after the other."""

import logging
import math
import shutil
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any

from anyio import CapacityLimiter, to_thread

from keyvid.errors import KeyvidError
from keyvid.runtime.clip import Clip
from keyvid.runtime.outputs import make_outputs
from keyvid.runtime.pipeline import Pipeline
from keyvid.serve import logbook
from keyvid.serve.job import CLIP, PLOT, REPORT, Clock, Job, State, WorkStopped
from keyvid.serve.limits import Limits
from keyvid.serve.metrics import Metrics
from keyvid.serve.order import Order, take_order
from keyvid.vocabulary import Outputs

_FIRST_GUESS_SECONDS = 10.0  # of a clip, before one was made
_REMEMBERED = 8  # clips whose time tells the pace
_PATIENCE_SECONDS = 10.0  # until a clip that is stopped has to be at its next step

log = logging.getLogger(__name__)


class RefusedError(KeyvidError):
    """An order is not taken now.

    Attributes:
        reason: "queue" or "stopping".
        retry_after: whole seconds after which to ask again.
    """

    def __init__(self, reason: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class Workshop:
    """Takes orders and makes them one by one; methods may be called from any thread.

    Args:
        folder: where the files of the jobs lie.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        limits: Limits,
        folder: Path,
        metrics: Metrics,
        clock: Clock = time.monotonic,
    ) -> None:
        self.pipeline = pipeline
        self.limits = limits
        self.metrics = metrics
        self._folder = folder
        self._clock = clock
        self._changed = Condition()
        self._jobs: dict[str, Job] = {}
        self._line: deque[Job] = deque()
        self._running: Job | None = None
        self._is_stopping = False
        self._decoding = CapacityLimiter(1)
        self._pace: deque[float] = deque(maxlen=_REMEMBERED)  # seconds a frame
        self._thread = Thread(target=self._work, name="workshop", daemon=True)
        metrics.watch("keyvid_queue_length", "Clips that wait", lambda: len(self._line))
        metrics.watch("keyvid_running", "Clips in the making", lambda: bool(self._running))
        metrics.watch("keyvid_jobs_kept", "Jobs that are known", lambda: len(self._jobs))

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, grace_seconds: float = 0.0) -> None:
        """Take no more orders, cancel those that wait, and let the running one end in that time."""
        with self._changed:
            self._is_stopping = True
            for job in self._line:
                self._end(job, "cancelled", "the server is stopping; order it again")
            self._line.clear()
            self._changed.notify_all()
        self._thread.join(grace_seconds)
        with self._changed:
            if self._running:
                self._running.is_unwanted = True
        self._thread.join(_PATIENCE_SECONDS)

    @property
    def is_ready(self) -> bool:
        """Whether orders will be made."""
        return self._thread.is_alive() and not self._is_stopping

    @property
    def is_busy(self) -> bool:
        """Whether a clip is in the making."""
        return self._running is not None

    async def take(self, image: IO[bytes], audio: IO[bytes], values: Mapping[str, Any]) -> Order:
        """`take_order` in a thread, one at a time: pictures may be large when they are decoded."""
        take = partial(take_order, self.pipeline, self.limits, image, audio, values)
        return await to_thread.run_sync(take, limiter=self._decoding)

    def check_open(self) -> None:
        """Refuse orders that could not be taken now.

        Raises:
            RefusedError: says when to come again.
        """
        with self._changed:
            if self._is_stopping:
                retry_after = math.ceil(self.limits.grace_seconds) + 1
                message = "the server is stopping; try again when it is back"
                self._refuse("stopping", message, retry_after)
            if len(self._line) >= self.limits.queue:
                seconds = self._seconds_until_a_place()
                message = (
                    f"{len(self._line)} clips are waiting, more are not taken; "
                    f"try again in {seconds} s"
                )
                self._refuse("queue", message, seconds)

    def submit(self, order: Order) -> Job:
        """A job for `order`, at the end of the line.

        Raises:
            RefusedError: as `check_open`.
        """
        with self._changed:
            self.check_open()
            job = Job(self._folder, order, self._clock)
            self._jobs[job.id] = job
            self._line.append(job)
            self._changed.notify_all()
        return job

    def find(self, job_id: str) -> Job | None:
        """The job of that id, None where there is none (any more)."""
        return self._jobs.get(job_id)

    @property
    def jobs(self) -> list[Job]:
        """All that are known, the first that was ordered first."""
        with self._changed:
            return [*self._jobs.values()]

    def place(self, job: Job) -> int:
        """How many clips are made before that of a queued job."""
        with self._changed:
            return self._line.index(job) + bool(self._running) if job in self._line else 0

    def discard(self, job: Job) -> None:
        """Cancel a job if it has not ended, and delete what there is of it."""
        with self._changed:
            self._jobs.pop(job.id, None)
            if job is self._running:
                job.is_unwanted = True  # the thread tidies up after it
            elif job in self._line:
                self._line.remove(job)
                self._end(job, "cancelled", "cancelled")
            else:
                shutil.rmtree(job.folder, ignore_errors=True)

    def discard_old(self) -> None:
        """Delete what has been kept long enough."""
        oldest = self._clock() - self.limits.keep_seconds
        for job in [*self._jobs.values()]:
            if job.has_ended and job.ended < oldest:
                self.discard(job)

    def _refuse(self, reason: str, message: str, retry_after: int) -> None:
        self.metrics.refused.labels(reason).inc()
        raise RefusedError(reason, message, retry_after)

    def _seconds_until_a_place(self) -> int:
        """Whole seconds until the running clip is probably done, told from the pace so far."""
        job = self._running
        if job is None:
            return 1
        seconds = job.seconds_left
        if seconds is None:
            spent = self._clock() - job.started
            pace = sum(self._pace) / len(self._pace) * job.num_frames if self._pace else None
            seconds = max((pace or _FIRST_GUESS_SECONDS) - spent, 0.0)
        return max(math.ceil(seconds), 1)

    def _work(self) -> None:
        while job := self._next():
            self._make(job)

    def _next(self) -> Job | None:
        """The first job of the line, when there is one; None to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._is_stopping)
            if not self._line:
                return None
            job = self._running = self._line.popleft()
            job.started = self._clock()
            self.metrics.queue_seconds.observe(job.started - job.ordered)
            job.deadline = job.started + self.limits.job_seconds
            job.state = "running"
        return job

    def _make(self, job: Job) -> None:
        state: State = "failed"
        error = ""
        try:
            self._write_files(job)
            state = "done"
        except WorkStopped:
            if job.is_unwanted:
                state, error = "cancelled", "cancelled"
            else:
                most = self.limits.job_seconds
                error = f"took more than {most:g} s; order fewer seconds or fewer steps"
        except KeyvidError as failure:
            error = str(failure)
        except Exception as failure:
            log.exception("job %s: unexpected %s", job.id, type(failure).__name__)
            error = f"unexpected {type(failure).__name__}; the server's log says more"
        with self._changed:
            self._running = None
            self._end(job, state, error)
            if state != "done" or job.id not in self._jobs:
                shutil.rmtree(job.folder, ignore_errors=True)

    def _write_files(self, job: Job) -> None:
        order = job.order
        assert order is not None, "it is there until the job has ended"
        job.folder.mkdir()
        outputs = Outputs(
            output=str(job.folder / CLIP),
            scale=order.scale,
            report=str(job.folder / REPORT),
            plot=str(job.folder / PLOT),
        )
        # Where the server keeps its models is its own affair.
        clip = make_outputs(
            outputs, order.prepared, self.pipeline, job.report_progress, tell_path=False
        )
        job.remarks = clip.remarks
        self._count(job, clip)

    def _count(self, job: Job, clip: Clip) -> None:
        seconds = self._clock() - job.started
        self._pace.append(seconds / job.num_frames)
        self.metrics.clip_seconds.observe(seconds)
        for stage, taken in clip.timings.items():
            self.metrics.stage_seconds.labels(stage).inc(taken)

    def _end(self, job: Job, state: State, error: str) -> None:
        job.error, job.ended, job.order = error, self._clock(), None
        job.seconds_left = None
        job.state = state
        self.metrics.clips.labels(state).inc()
        logbook.note(
            "job",
            id=job.id,
            state=state,
            waited=round(job.started - job.ordered, 3) if job.started else None,
            seconds=round(job.ended - job.started, 3) if job.started else None,
            error=error or None,
        )
