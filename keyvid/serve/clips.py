"""/clips: order a clip, watch it being made, fetch it, cancel it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.datastructures import UploadFile

from keyvid.serve.answers import Detail, JobAnswer, describe, says
from keyvid.serve.files import send_file
from keyvid.serve.form import form_schema
from keyvid.serve.job import CLIP, PLOT, REPORT, Job
from keyvid.serve.order import parse_fields
from keyvid.serve.upload import read_form
from keyvid.serve.workshop import Workshop

Answers = dict[int | str, dict[str, Any]]

_LOOK_EVERY_SECONDS = 0.2  # for what has changed of a job that somebody watches
_FILES = {CLIP: "video/mp4", REPORT: "application/json", PLOT: "image/png"}
_NO_JOB: Answers = {404: says("No such job")}
REFUSALS: Answers = {
    400: {"model": Detail, "description": "Not a form, or picture or sound are not in it"},
    408: {"model": Detail, "description": "The form did not come to its end in time"},
    413: {"model": Detail, "description": "More bytes than the server takes"},
    422: {"model": Detail, "description": "What is wrong with picture, sound or settings"},
    429: {"model": Detail, "description": "Too many wait; Retry-After says when to come again"},
    503: {"model": Detail, "description": "The server is stopping"},
}


def workshop_of(request: Request) -> Workshop:
    """The workshop behind the application."""
    workshop: Workshop = request.app.state.workshop
    return workshop


def root_of(request: Request) -> str:
    """The path of the server, "" or such as /keyvid."""
    root: str = request.scope.get("root_path", "")
    return root


Shop = Annotated[Workshop, Depends(workshop_of)]
Root = Annotated[str, Depends(root_of)]


def find_job(job_id: str, workshop: Shop) -> Job:
    """The job of that id.

    Raises:
        HTTPException: there is none.
    """
    job = workshop.find(job_id)
    if job is None:
        raise HTTPException(404, "no such job; it may have been kept long enough")
    return job


Found = Annotated[Job, Depends(find_job)]


def clips_router(workshop: Workshop) -> APIRouter:
    """The routes below /clips, described for the bundle of that workshop."""
    router = APIRouter(prefix="/clips", tags=["clips"])
    router.post(
        "",
        status_code=202,
        responses=REFUSALS,
        openapi_extra={"requestBody": form_schema(workshop.pipeline)},
    )(order_a_clip)
    router.get("/{job_id}", responses=_NO_JOB)(look_at_a_job)
    router.get("/{job_id}/events", response_class=EventSourceResponse, responses=_NO_JOB)(
        watch_a_job
    )
    router.delete("/{job_id}", status_code=204, responses=_NO_JOB)(discard_a_job)
    for name, kind in _FILES.items():
        _add_file(router, name, kind)
    return router


async def order_a_clip(
    request: Request, response: Response, workshop: Shop, root: Root
) -> JobAnswer:
    """Order a clip of a picture and a sound; settings are those of `keyvid-infer`."""
    workshop.check_open()  # before anything is received
    async with read_form(request, workshop.limits.upload_bytes) as form:
        files = {name: form.get(name) for name in ("image", "audio")}
        image, audio = files.values()
        if not isinstance(image, UploadFile) or not isinstance(audio, UploadFile):
            missing = [name for name, part in files.items() if not isinstance(part, UploadFile)]
            raise HTTPException(400, f"no file {' and '.join(missing)}; send image and audio")
        values = parse_fields({n: v for n, v in form.items() if isinstance(v, str)})
        order = await workshop.take(image.file, audio.file, values)
    answer = describe(workshop.submit(order), workshop, root)
    response.headers["Location"] = answer.links.self
    return answer


def look_at_a_job(job: Found, workshop: Shop, root: Root) -> JobAnswer:
    """How far a job is."""
    return describe(job, workshop, root)


async def watch_a_job(job: Found, workshop: Shop, root: Root) -> AsyncIterator[ServerSentEvent]:
    """Events `progress` with the job, and one named as the state in which it ends."""
    shown = None
    while True:
        has_ended = job.has_ended  # before it is described: no state is missed
        answer = describe(job, workshop, root)
        if answer != shown:
            shown = answer
            event = answer.state if has_ended else "progress"
            yield ServerSentEvent(data=answer, event=event)
        if has_ended:
            return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


def discard_a_job(job: Found, workshop: Shop) -> None:
    """Cancel a job, and delete what there is of it."""
    workshop.discard(job)


def _add_file(router: APIRouter, name: str, kind: str) -> None:
    schema = {"type": "object" if kind == "application/json" else "string"}
    answers: Answers = {
        **_NO_JOB,
        200: {"content": {kind: {"schema": schema}}},
        304: {"description": "It is what If-None-Match names"},
        409: says("The job is not done"),
    }

    @router.get(f"/{{job_id}}/{name}", name=name, response_class=FileResponse, responses=answers)
    def fetch(request: Request, job: Found) -> Response:
        """What came of a job that is done."""
        if job.state != "done":
            because = f": {job.error}" if job.error else "; wait until it is done"
            raise HTTPException(409, f"the job is {job.state}{because}")
        return send_file(request, job.folder / name, kind, f"keyvid-{name}")
