"""Making a job: its order becomes a clip in its folder, whatever was there of it before."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keyvid.errors import KeyvidError, MediaError, ProvenanceError
from keyvid.file_safety import NO_ROOM
from keyvid.provenance.credentials import Signer
from keyvid.runtime.networks.stages import SEGMENT
from keyvid.runtime.outputs import is_interrupted, make_outputs
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.progress import Forecast
from keyvid.serve.job_folder import CLIP, PLOT, REPORT, JobFolder, JobProgress, crashes
from keyvid.serve.scheduling import is_worth_a_try
from keyvid.sizes import format_sizes
from keyvid.vocabulary import Outputs

Clock = Callable[[], float]

log = logging.getLogger(__name__)


class WorkStopped(Exception):  # noqa: N818 # no error: somebody wants it so
    """Raised where a clip reports its progress, to end the work on it."""


class Maker:
    """Makes jobs with one pipeline, one after the other.

    Args:
        jobs: the folder with the folders of all jobs.
        most_seconds: that the making of a clip may take.
        run: of the server, see `keyvid.serve.job_folder.Attempt`.
        on_job: called with the id of a job that begins, and with None when it has ended.
        clock: seconds since 1970.
        signer: who signs the clips, None for nobody.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        jobs: Path,
        most_seconds: float,
        run: str,
        on_job: Callable[[str | None], None] = lambda job: None,
        clock: Clock = time.time,
        *,
        signer: Signer | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._jobs = jobs
        self._most_seconds = most_seconds
        self._run = run
        self._on_job = on_job
        self._clock = clock
        self._signer = signer
        self._longest_steps: dict[str, float] = {}  # seconds, by stage

    def make(self, job_id: str) -> dict[str, Any]:
        """Make the clip of a job, or go on with it.

        Returns:
            JSON values: `state` ("done", "failed" or "cancelled"), `error`, `remarks`, `started`
            (the first time) and `ended` (seconds since 1970), `attempts` (how often it was begun),
            and `timings` (seconds by stage).
        """
        folder = JobFolder(self._jobs / job_id)
        if outcome := folder.outcome:  # and only the store has not heard of it
            return outcome
        self._on_job(job_id)
        try:
            outcome = self._attempt(folder, job_id)
            if folder.is_wanted:
                with suppress(OSError):  # then the store alone knows it
                    folder.end(outcome)
            else:
                folder.remove()
        finally:
            self._on_job(None)
        return outcome

    def _attempt(self, folder: JobFolder, job_id: str) -> dict[str, Any]:
        started = self._clock()
        found: dict[str, Any] = {"state": "failed", "error": "", "remarks": [], "timings": {}}
        found["attempts"] = len(folder.attempts) + 1
        try:
            found |= self._make_files(folder)
        except WorkStopped:
            if folder.is_wanted:
                most = self._most_seconds
                found["error"] = f"took more than {most:g} s; order fewer seconds or fewer steps"
            else:
                found |= {"state": "cancelled", "error": "cancelled"}
        except ProvenanceError as failure:  # where certificate and key lie is nothing for clients
            log.error("job %s: %s", job_id, failure)
            found["error"] = "the server cannot sign clips now; order it later"
        except KeyvidError as failure:
            found["error"] = str(failure).replace(f"{folder.path}/", "")
        except OSError as failure:
            log.exception("job %s: cannot be kept", job_id)
            found["error"] = f"the server's disk: {failure.strerror or failure}; order it later"
        except Exception as failure:
            log.exception("job %s: unexpected %s", job_id, type(failure).__name__)
            found["error"] = f"unexpected {type(failure).__name__}; the server's log says more"
        return {**found, "started": folder.begun or started, "ended": self._clock()}

    def _make_files(self, folder: JobFolder) -> dict[str, Any]:
        if not folder.is_wanted:
            raise WorkStopped
        attempts = folder.attempts
        if not is_worth_a_try(crashes(attempts, self._run), len(attempts)):
            raise KeyvidError(
                f"was begun {len(attempts)} times, and its worker ended each time without coming "
                "further; order less: fewer seconds, a smaller scale, or --cfg-batch 1"
            )
        if self._signer:  # the certificate may have expired
            self._signer.check()
        order = folder.read_order(self._pipeline.bundle)
        before = folder.progress  # of another worker, from which this one learns what a step takes
        self._know_step(before.stage, before.longest_step)
        folder.begin_attempt(self._run, self._clock())
        clip_path = str(folder.path / CLIP)
        outputs = Outputs(
            output=clip_path,
            scale=order.scale,
            report=str(folder.path / REPORT),
            plot=str(folder.path / PLOT),
            signer=self._signer,
        )
        inputs = order.prepared.inputs
        with _told_of_room(folder.path, inputs.num_frames * inputs.picture.nbytes):
            clip = make_outputs(
                outputs,
                order.prepared,
                self._pipeline,
                self._reporter(folder),
                resume=is_interrupted(clip_path),
                tell_path=False,  # where the server keeps its models is its own affair
            )
        return {"state": "done", "remarks": list(clip.remarks), "timings": clip.timings}

    def _reporter(self, folder: JobFolder) -> Callable[[str, int, int], None]:
        """A `keyvid.runtime.networks.stages.Progress` that writes into a folder."""
        forecast = Forecast(self._clock)
        deadline = self._clock() + self._most_seconds
        segment, num_segments = 0, 1
        last_stage, last_time = "", 0.0

        def report(stage: str, done: int, total: int) -> None:
            nonlocal segment, num_segments, last_stage, last_time
            if not folder.is_wanted or self._clock() > deadline:
                raise WorkStopped
            if stage == SEGMENT:
                forecast.enter_segment(done, total)
                segment, num_segments = done, total
                return
            left, now = forecast(stage, done, total), self._clock()
            if stage == last_stage:
                self._know_step(stage, now - last_time)
            last_stage, last_time = stage, now
            longest = self._longest_steps.get(stage)
            folder.progress = JobProgress(stage, done, total, segment, num_segments, left, longest)

        return report

    def _know_step(self, stage: str, seconds: float | None) -> None:
        if seconds is not None:
            self._longest_steps[stage] = max(seconds, self._longest_steps.get(stage, 0.0))


@contextmanager
def _told_of_room(folder: Path, num_bytes: int) -> Iterator[None]:
    """Let a disk that is full be an error that says how much frames of `num_bytes` want there.

    Raises:
        MediaError: there is no room.
    """
    try:
        yield
    except (OSError, KeyvidError) as failure:
        cause = failure if isinstance(failure, OSError) else failure.__cause__
        if not isinstance(cause, OSError) or cause.errno not in NO_ROOM:
            raise
        needed, free = format_sizes(num_bytes, shutil.disk_usage(folder).free)
        raise MediaError(
            f"no room on the server's disk: the frames take {needed} and files of the clip come to "
            f"that, {free} are free; order it later"
        ) from failure
