"""The interface over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.datastructures import UploadFile

from keyvid.errors import KeyvidError
from keyvid.serve.answers import Detail, JobAnswer, describe, form_schema
from keyvid.serve.guard import Guard
from keyvid.serve.job import CLIP, PLOT, REPORT, Job
from keyvid.serve.metrics import CONTENT_TYPE
from keyvid.serve.order import parse_fields
from keyvid.serve.upload import read_form
from keyvid.serve.workshop import RefusedError, Workshop

_LOOK_EVERY_SECONDS = 0.2  # for what has changed of a job that somebody watches
_DISCARD_EVERY_SECONDS = 5.0
_STATUS = {"queue": 429, "stopping": 503}
_FILES = {CLIP: "video/mp4", REPORT: "application/json", PLOT: "image/png"}
_NO_JOB: dict[int | str, dict[str, Any]] = {404: {"model": Detail, "description": "No such job"}}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Detail, "description": "Not a form, or picture or sound are not in it"},
    401: {"model": Detail, "description": "The token is missing or wrong"},
    413: {"model": Detail, "description": "More bytes than the server takes"},
    422: {"model": Detail, "description": "What is wrong with picture, sound or settings"},
    429: {"model": Detail, "description": "Too many wait; Retry-After says when to come again"},
    503: {"model": Detail, "description": "The server is stopping"},
}


def _workshop(request: Request) -> Workshop:
    workshop: Workshop = request.app.state.workshop
    return workshop


Shop = Annotated[Workshop, Depends(_workshop)]


def _find(job_id: str, workshop: Shop) -> Job:
    job = workshop.find(job_id)
    if job is None:
        raise HTTPException(404, "no such job; it may have been kept long enough")
    return job


Found = Annotated[Job, Depends(_find)]

_clips = APIRouter(prefix="/clips")


@_clips.post(
    "",
    status_code=202,
    response_model=JobAnswer,
    responses=_REFUSALS,
    openapi_extra={"requestBody": form_schema()},
)
async def order_a_clip(request: Request, response: Response, workshop: Shop) -> JobAnswer:
    """Order a clip of a picture and a sound; settings are those of `keyvid-infer`."""
    workshop.check_open()  # before anything is received
    async with read_form(request, workshop.limits.upload_bytes, most_files=2) as form:
        files = {name: form.get(name) for name in ("image", "audio")}
        image, audio = files.values()
        if not isinstance(image, UploadFile) or not isinstance(audio, UploadFile):
            missing = [name for name, part in files.items() if not isinstance(part, UploadFile)]
            raise HTTPException(400, f"no file {' and '.join(missing)}; send image and audio")
        values = parse_fields({n: v for n, v in form.items() if isinstance(v, str)})
        order = await workshop.take(image.file, audio.file, values)
    answer = describe(workshop.submit(order), workshop)
    response.headers["Location"] = answer.links.self
    return answer


@_clips.get("/{job_id}", responses=_NO_JOB)
def look_at_a_job(job: Found, workshop: Shop) -> JobAnswer:
    """How far a job is."""
    return describe(job, workshop)


@_clips.get("/{job_id}/events", response_class=EventSourceResponse, responses=_NO_JOB)
async def watch_a_job(job: Found, workshop: Shop) -> AsyncIterator[ServerSentEvent]:
    """Events `progress` with the job, and one named as the state in which it ends."""
    shown = None
    while True:
        has_ended = job.has_ended  # before it is described: no state is missed
        answer = describe(job, workshop)
        if answer != shown:
            shown = answer
            event = answer.state if has_ended else "progress"
            yield ServerSentEvent(data=answer, event=event)
        if has_ended:
            return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


def _add_file(name: str, kind: str) -> None:
    answers: dict[int | str, dict[str, Any]] = {
        **_NO_JOB,
        200: {"content": {kind: {}}},
        409: {"model": Detail, "description": "The job is not done"},
    }

    @_clips.get(f"/{{job_id}}/{name}", name=name, response_class=FileResponse, responses=answers)
    def fetch(job: Found) -> FileResponse:
        """What came of a job that is done."""
        if job.state != "done":
            because = f": {job.error}" if job.error else "; wait until it is done"
            raise HTTPException(409, f"the job is {job.state}{because}")
        return FileResponse(
            job.folder / name,
            media_type=kind,
            filename=f"keyvid-{name}",
            content_disposition_type="inline",
        )


for _name, _kind in _FILES.items():
    _add_file(_name, _kind)


@_clips.delete("/{job_id}", status_code=204, responses=_NO_JOB)
def discard_a_job(job: Found, workshop: Shop) -> None:
    """Cancel a job, and delete what there is of it."""
    workshop.discard(job)


_health = APIRouter()


@_health.get("/healthz")
def is_alive() -> dict[str, str]:
    """The server answers."""
    return {"status": "alive"}


@_health.get("/readyz", responses={503: {"model": Detail, "description": "It is stopping"}})
def is_ready(workshop: Shop) -> dict[str, str]:
    """Orders are taken, or are refused only because too many wait."""
    if not workshop.is_ready:
        raise HTTPException(503, "no orders are taken: the server is stopping")
    return {"status": "ready"}


@_health.get("/metrics", response_class=Response)
def metrics(workshop: Shop) -> Response:
    """Numbers for Prometheus."""
    return Response(workshop.metrics.text(), media_type=CONTENT_TYPE)


def make_app(workshop: Workshop, token: str | None = None) -> FastAPI:
    """The application around `workshop`, which works as long as the application runs.

    Args:
        token: asked for where it is not None.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        workshop.start()
        discarding = asyncio.create_task(_discard_now_and_then(workshop))
        yield
        discarding.cancel()
        await to_thread.run_sync(workshop.stop)

    app = FastAPI(
        title="keyvid",
        summary="Animate a picture to a sound",
        description="Order a clip, watch it being made, fetch it: see the examples below.",
        version=version("keyvid"),
        lifespan=lifespan,
    )
    app.state.workshop = workshop
    app.add_middleware(Guard, token=token, metrics=workshop.metrics)
    app.add_exception_handler(RefusedError, _answer_refusal)
    app.add_exception_handler(KeyvidError, _answer_error)
    app.include_router(_clips)
    app.include_router(_health)
    return app


async def _discard_now_and_then(workshop: Workshop) -> None:
    while True:
        await asyncio.sleep(min(_DISCARD_EVERY_SECONDS, workshop.limits.keep_seconds))
        await to_thread.run_sync(workshop.discard_old)


async def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = {"Retry-After": str(error.retry_after)}
    return JSONResponse({"detail": str(error)}, _STATUS[error.reason], headers)


async def _answer_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 422)
