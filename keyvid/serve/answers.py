"""What the server says of a job, and how its form is described."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from keyvid.serve.job import CLIP, PLOT, REPORT, Job, State
from keyvid.serve.order import FIELDS
from keyvid.serve.workshop import Workshop

_EXAMPLES = {
    "prompt": "hammer",
    "seed": 1,
    "steps": 25,
    "length": "full",
    "keyframes": "auto",
}


class Detail(BaseModel):
    """Why something was not done, in one line."""

    detail: str

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"detail": "the sound: is empty (0 bytes)"}]}
    )


class JobProgress(BaseModel):
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
    """Where to find a job and what came of it, relative to the server's root."""

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
    """

    id: str
    state: State
    before: int
    frames: int
    remarks: list[str]
    error: str
    progress: JobProgress
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


def describe(job: Job, workshop: Workshop) -> JobAnswer:
    """What there is to say of a job now."""
    here = f"/clips/{job.id}"
    left = job.seconds_left
    return JobAnswer(
        id=job.id,
        state=job.state,
        before=workshop.place(job),
        frames=job.num_frames,
        remarks=list(job.remarks),
        error=job.error,
        progress=JobProgress(
            stage=job.stage,
            step=job.step,
            num_steps=job.num_steps,
            segment=job.segment,
            num_segments=job.num_segments,
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


def form_schema() -> dict[str, Any]:
    """The body of an order, as OpenAPI describes it."""
    kinds = {int: "integer", float: "number", str: "string"}
    properties: dict[str, Any] = {
        "image": {"type": "string", "format": "binary", "description": "Any picture"},
        "audio": {"type": "string", "format": "binary", "description": "Any sound, or a video"},
    }
    for option in FIELDS:
        field: dict[str, Any] = {"type": kinds[option.kind], "description": option.help}
        if option.choices:
            field["enum"] = list(option.choices)
        if option.name in _EXAMPLES:
            field["examples"] = [_EXAMPLES[option.name]]
        properties[option.dashed] = field
    schema = {"type": "object", "required": ["image", "audio"], "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
