"""A job: one clip that was ordered, from its place in the line to its files."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keyvid.runtime.networks.stages import SEGMENT
from keyvid.runtime.progress import Forecast
from keyvid.serve.order import Order

State = Literal["queued", "running", "done", "failed", "cancelled"]
CLIP, REPORT, PLOT = "clip.mp4", "report.json", "plot.png"

Clock = Callable[[], float]


class WorkStopped(Exception):  # noqa: N818 # no error: somebody wants it so
    """Raised where a clip reports its progress, to end the work on it."""


@dataclass
class Job:
    """One clip that was ordered.

    Attributes:
        folder: of its files; it is there while the job runs and when it is done.
        order: None once the job has ended.
        num_frames: of the clip.
        remarks: what there is to say about picture, sound and clip.
        error: why it failed, in one line.
        stage, step, num_steps: how far it is.
        segment, num_segments: the same of a clip that is made in several parts.
        seconds_left: None while it is not known.
        prompt, scale: as they were ordered.
        created: seconds since 1970.
        ordered, started, ended, deadline: by the clock; the last is when it is given up.
        is_unwanted: whether somebody has cancelled it.
    """

    folder: Path
    order: Order | None
    clock: Clock = time.monotonic
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: State = "queued"
    error: str = ""
    stage: str = ""
    step: int = 0
    num_steps: int = 0
    segment: int = 0
    num_segments: int = 1
    seconds_left: float | None = None
    created: float = field(default_factory=time.time)
    started: float = 0.0
    ended: float = 0.0
    deadline: float = 0.0
    is_unwanted: bool = False

    def __post_init__(self) -> None:
        assert self.order is not None, "there is one until the job has ended"
        self.folder = self.folder / self.id
        self.ordered = self.clock()
        self.num_frames = self.order.prepared.inputs.num_frames
        self.remarks = self.order.prepared.remarks
        self._forecast = Forecast(self.clock)
        self.prompt, self.scale = self.order.prepared.prompt, self.order.scale

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it will change."""
        return self.state not in ("queued", "running")

    def report_progress(self, stage: str, done: int, total: int) -> None:
        """A `keyvid.runtime.networks.stages.Progress`.

        Raises:
            WorkStopped: nobody wants the clip any more, or it takes too long.
        """
        if self.is_unwanted or self.clock() > self.deadline:
            raise WorkStopped
        if stage == SEGMENT:
            self._forecast.enter_segment(done, total)
            self.segment, self.num_segments = done, total
            return
        self.stage, self.step, self.num_steps = stage, done, total
        self.seconds_left = self._forecast(stage, done, total)
