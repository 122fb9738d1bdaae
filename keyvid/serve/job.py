"""A job: one clip that was ordered, from its place in the line to its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from keyvid.serve.job_folder import JobFolder, JobProgress
from keyvid.serve.store import Row

State = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass
class Job:
    """One clip that was ordered.

    Attributes:
        folder: of its files; the clip is in it when the job is done.
        client: who ordered it.
        digest: of all that was ordered.
        work: see `keyvid.serve.scheduling.work_of`.
        num_frames: of the clip.
        remarks: what there is to say about picture, sound and clip.
        prompt, scale: as they were ordered.
        webhook: where to tell when it has ended, "" for nowhere.
        created, started, ended: seconds since 1970, None where that was not yet.
        error: why it failed, in one line.
    """

    id: str
    folder: JobFolder
    client: str
    digest: str
    work: float
    num_frames: int
    remarks: tuple[str, ...]
    prompt: str
    scale: int
    created: float
    webhook: str = ""
    state: State = "queued"
    error: str = ""
    progress: JobProgress = JobProgress()
    started: float | None = None
    ended: float | None = None

    @classmethod
    def of_row(cls, row: Row, folder: JobFolder) -> "Job":
        """As the store knows it, at its beginning.

        Raises:
            KeyError: the store knows it in another form.
        """
        said = row.summary
        return cls(
            id=row.id,
            folder=folder,
            client=row.client,
            digest=said["digest"],
            work=said["work"],
            num_frames=said["frames"],
            remarks=tuple(said["remarks"]),
            prompt=said["prompt"],
            scale=said["scale"],
            created=said["created"],
            webhook=said["webhook"],
        )

    @property
    def summary(self) -> dict[str, Any]:
        """What the store is told of it, as JSON values."""
        return {
            "digest": self.digest,
            "work": self.work,
            "frames": self.num_frames,
            "remarks": list(self.remarks),
            "prompt": self.prompt,
            "scale": self.scale,
            "created": self.created,
            "webhook": self.webhook,
        }

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it will change."""
        return self.state not in ("queued", "running")

    @property
    def seconds_left(self) -> float | None:
        """Until the clip is done, None where that is not known."""
        return self.progress.seconds_left if self.state == "running" else None

    def end(self, row: Row) -> None:
        """Take over how it ended.

        Args:
            row: of an order that has ended.
        """
        outcome: Mapping[str, Any] = row.outcome or {}
        starts = (self.started, outcome.get("started", row.started))  # it may have been begun twice
        self.started = min((at for at in starts if at is not None), default=None)
        self.ended = outcome.get("ended", row.ended)
        self.remarks = tuple(outcome.get("remarks") or self.remarks)
        self.error = outcome.get("error", "" if row.state == "done" else row.state)
        self.state = next((s for s in get_args(State) if s == row.state), "failed")
