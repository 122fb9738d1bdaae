"""What the server says of a job."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from keyvid.serve.job import Job, State
from keyvid.serve.job_folder import CLIP, PLOT, REPORT
from keyvid.serve.workshop import Workshop


class Detail(BaseModel):
    """Why something was not done, in one line."""

    detail: str

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"detail": "the sound: is empty (0 bytes)"}]}
    )


def says(description: str, kind: str = "Detail") -> dict[str, Any]:
    """An answer that says why not, for OpenAPI; JSON also where the route sends something else.

    Args:
        kind: `Detail`, or `Failure`, which other routes bring into the document.
    """
    schema = {"$ref": f"#/components/schemas/{kind}"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


class FailureText(BaseModel):
    """What was wrong with a request to /v1, in the words of its clients."""

    message: str
    type: str
    param: str | None
    code: str | None


class Failure(BaseModel):
    """Why something was not done, where clients look for `error`."""

    error: FailureText


class Progress(BaseModel):
    """How far a clip is.

    Attributes:
        stage: the network at work.
        segment: of the parts in which a long clip is made, from 0.
        seconds_left: null while it is not known.
    """

    stage: str
    step: int
    num_steps: int
    segment: int
    num_segments: int
    seconds_left: float | None


class Links(BaseModel):
    """Paths of a job and of what came of it, on the server that was asked."""

    self: str
    events: str
    clip: str
    report: str
    plot: str


class JobAnswer(BaseModel):
    """A job.

    Attributes:
        before: clips that are made before this one.
        frames: of the clip.
        remarks: what there is to say about picture and sound.
        error: why there is no clip, "" if there is or may be one.
        created, started, ended, expires: seconds since 1970, null where that was not yet; a job
            expires when its files are deleted.
    """

    id: str
    state: State
    before: int
    frames: int
    remarks: list[str]
    error: str
    created: float
    started: float | None
    ended: float | None
    expires: float | None
    progress: Progress
    links: Links

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "sX9kR2mPq7Lw4Tzb",
                    "state": "running",
                    "before": 0,
                    "frames": 48,
                    "remarks": ["the sound: lasts 3.00 s, used from 0 s to 2 s"],
                    "error": "",
                    "created": 1793218454.2,
                    "started": 1793218455.1,
                    "ended": None,
                    "expires": None,
                    "progress": {
                        "stage": "generator",
                        "step": 7,
                        "num_steps": 25,
                        "segment": 0,
                        "num_segments": 1,
                        "seconds_left": 6.2,
                    },
                    "links": {
                        "self": "/clips/sX9kR2mPq7Lw4Tzb",
                        "events": "/clips/sX9kR2mPq7Lw4Tzb/events",
                        "clip": "/clips/sX9kR2mPq7Lw4Tzb/clip.mp4",
                        "report": "/clips/sX9kR2mPq7Lw4Tzb/report.json",
                        "plot": "/clips/sX9kR2mPq7Lw4Tzb/plot.png",
                    },
                }
            ]
        }
    )


class JobPage(BaseModel):
    """Jobs of the client who asks, the newest first.

    Attributes:
        next: path of the next page, null where this is the last.
    """

    jobs: list[JobAnswer]
    next: str | None


def describe(job: Job, workshop: Workshop, root: str) -> JobAnswer:
    """What there is to say of a job now.

    Args:
        root: path of the server, "" or such as /keyvid.
    """
    here = f"{root}/clips/{job.id}"
    left = job.seconds_left
    return JobAnswer(
        id=job.id,
        state=job.state,
        before=workshop.place(job),
        frames=job.num_frames,
        remarks=list(job.remarks),
        error=job.error,
        created=round(job.created, 3),
        started=_rounded(job.started),
        ended=_rounded(job.ended),
        expires=workshop.expires(job),
        progress=Progress(
            stage=job.progress.stage,
            step=job.progress.step,
            num_steps=job.progress.num_steps,
            segment=job.progress.segment,
            num_segments=job.progress.num_segments,
            seconds_left=None if left is None else round(left, 1),
        ),
        links=Links(
            self=here,
            events=f"{here}/events",
            clip=f"{here}/{CLIP}",
            report=f"{here}/{REPORT}",
            plot=f"{here}/{PLOT}",
        ),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
