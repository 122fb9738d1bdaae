"""/v1/videos: the same clips in the words of OpenAI's interface, which clients of models know."""

import io
from typing import Annotated, Any, Literal

import av
from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from PIL import Image
from pydantic import BaseModel

from keyvid.serve.answers import Failure, says
from keyvid.serve.clips import (
    Answers,
    Client,
    IdempotencyKey,
    Shop,
    find_job,
    page_of,
    take_and_submit,
)
from keyvid.serve.files import send_file
from keyvid.serve.form import MOST_SCALE, video_form_schema
from keyvid.serve.job import Job
from keyvid.serve.job_folder import CLIP
from keyvid.serve.order import parse_fields
from keyvid.serve.references import read_video_order
from keyvid.serve.workshop import Workshop

Status = Literal["queued", "in_progress", "completed", "failed"]

_STATUS: dict[str, Status] = {"queued": "queued", "running": "in_progress", "done": "completed"}
_POLL_MS = (200, 5000)  # after which to ask again, at least and at most


class VideoError(BaseModel):
    """Why there is no video."""

    code: str
    message: str


class Video(BaseModel):
    """A job, in words of that interface.

    Attributes:
        progress: whole per cent.
        created_at, completed_at, expires_at: seconds since 1970.
        seconds, size: such as "2" and "160x96".
        remarks: what there is to say about picture and sound.
    """

    id: str
    object: Literal["video"] = "video"
    status: Status
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None
    error: VideoError | None
    model: str
    prompt: str
    seconds: str
    size: str
    remarks: list[str]


class VideoList(BaseModel):
    """A page of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """A video that is no more."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


_NOT_THERE: Answers = {
    404: says("No such video", "Failure"),
    410: says("The video was kept long enough, and is deleted", "Failure"),
}
_NO_PAGE: Answers = {
    404: says("No such video to go on after", "Failure"),
    422: says("No such page", "Failure"),
}
_REFUSALS: Answers = {
    400: {"model": Failure, "description": "No order, or picture or sound are not in it"},
    408: says("It did not come to its end in time", "Failure"),
    413: says("More bytes than the server takes", "Failure"),
    422: says("What is wrong with picture, sound or settings", "Failure"),
    429: says("Too many wait; Retry-After says when to come again", "Failure"),
}

Found = Annotated[Job, Depends(find_job)]


def videos_router(workshop: Workshop) -> APIRouter:
    """The routes below /v1/videos, described for the bundle of that workshop."""
    router = APIRouter(prefix="/v1/videos", tags=["videos"])
    body = video_form_schema(workshop.bundle)
    content = {kind: {"schema": {"type": "string"}} for kind in ("video/mp4", "image/webp")}
    a_file: Answers = {
        **_NOT_THERE,
        200: {"content": content},
        304: {"description": "It is what If-None-Match names"},
        422: _REFUSALS[422],
    }
    router.post("", responses=_REFUSALS, openapi_extra={"requestBody": body})(create_a_video)
    router.get("", responses=_NO_PAGE)(list_videos)
    router.get("/{job_id}", responses=_NOT_THERE)(retrieve_a_video)
    router.delete("/{job_id}", responses=_NOT_THERE)(delete_a_video)
    router.get("/{job_id}/content", response_class=FileResponse, responses=a_file)(download_a_video)
    return router


async def create_a_video(
    request: Request,
    response: Response,
    workshop: Shop,
    client: Client,
    idempotency_key: IdempotencyKey = None,
) -> Video:
    """Order a clip; JSON with data URLs works too."""
    await to_thread.run_sync(workshop.check_open, client)
    files, values = await read_video_order(request, workshop.limits.upload_bytes)
    for name, what in (("input_reference", "picture"), ("audio_reference", "sound")):
        if name not in files:
            raise HTTPException(400, f"there is no {what}; send {name}, a file or a data URL")
    webhook = str(values.pop("webhook", ""))
    fields = parse_fields(_in_our_words(values, workshop))
    parts = {name: files[name] for name in ("input_reference", "audio_reference")}
    job = await take_and_submit(request, workshop, client, parts, fields, idempotency_key, webhook)
    return _answer(job, workshop, response)


def list_videos(
    workshop: Shop,
    client: Client,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: str | None = None,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """Your videos, the newest first; `after` is the id of the last one of a page."""
    newest_first = order == "desc"
    jobs, has_more = page_of(workshop, client, limit, after, newest_first=newest_first)
    data = [_describe(job, workshop) for job in jobs]
    return VideoList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=has_more,
    )


def retrieve_a_video(job: Found, workshop: Shop, response: Response) -> Video:
    """How far it is; openai-poll-after-ms says when to ask again."""
    return _answer(job, workshop, response)


def delete_a_video(job: Found, workshop: Shop) -> Deleted:
    """Cancel it, and delete what there is of it."""
    workshop.discard(job)
    return Deleted(id=job.id)


def download_a_video(
    request: Request, job: Found, variant: Literal["video", "thumbnail"] = "video"
) -> Response:
    """The MP4, or its first frame; 404 where it is not done, as clients ask again at 409."""
    if job.state != "done":
        raise HTTPException(404, job.error or "it is not done; ask again when it is completed")
    if variant == "video":
        return send_file(request, job.folder.path / CLIP, "video/mp4", f"{job.id}.mp4")
    return Response(_thumbnail(job), media_type="image/webp")


def _in_our_words(values: dict[str, Any], workshop: Workshop) -> dict[str, str]:
    """Values of an order by the names of a form's fields."""
    bundle = workshop.bundle
    ours = {name: str(value) for name, value in values.items()}
    model = ours.pop("model", "")
    if model not in ("", bundle.name):
        raise HTTPException(400, f"there is no model {model[:40]!r} here; this is {bundle.name}")
    if seconds := ours.pop("seconds", ""):
        ours["length"] = seconds
    if size := ours.pop("size", ""):
        width, height = bundle.dimensions.width, bundle.dimensions.height
        sizes = [f"{width * scale}x{height * scale}" for scale in range(1, MOST_SCALE + 1)]
        if size not in sizes:
            raise HTTPException(400, f"size is {size[:40]!r}; want one of {', '.join(sizes)}")
        ours["scale"] = str(sizes.index(size) + 1)
    return ours


def _answer(job: Job, workshop: Workshop, response: Response) -> Video:
    least, most = _POLL_MS
    left_ms = round(1000 * (job.seconds_left or 1.0))
    response.headers["openai-poll-after-ms"] = str(min(max(left_ms, least), most))
    return _describe(job, workshop)


def _describe(job: Job, workshop: Workshop) -> Video:
    bundle = workshop.bundle
    size = bundle.dimensions
    expires = workshop.expires(job)
    error = VideoError(code=job.state, message=job.error) if job.error else None
    return Video(
        id=job.id,
        status=_STATUS.get(job.state, "failed"),
        progress=_per_cent(job, workshop.clock()),
        created_at=int(job.created),
        completed_at=round(job.ended) if job.ended and job.state == "done" else None,
        expires_at=round(expires) if expires else None,
        error=error,
        model=bundle.name,
        prompt=job.prompt,
        seconds=f"{job.num_frames / size.fps:g}",
        size=f"{size.width * job.scale}x{size.height * job.scale}",
        remarks=list(job.remarks),
    )


def _per_cent(job: Job, now: float) -> int:
    """How much of the time is over; 100 only when the job is done."""
    if job.state == "done":
        return 100
    if job.state != "running" or job.seconds_left is None:
        return 0
    spent = max(now - (job.started or now), 0.0)
    return min(int(100 * spent / (spent + job.seconds_left + 1e-6)), 99)


def _thumbnail(job: Job) -> bytes:
    """The first frame as WebP."""
    with av.open(str(job.folder.path / CLIP)) as video:
        frame = next(video.decode(video=0)).to_ndarray(format="rgb24")
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "WEBP")
    return content.getvalue()
