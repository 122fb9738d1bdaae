"""/clips: order a clip, watch it being made, fetch it, cancel it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import IO, Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.datastructures import UploadFile

from keyvid.serve.answers import Detail, JobAnswer, JobPage, describe, says
from keyvid.serve.files import send_file
from keyvid.serve.form import form_schema
from keyvid.serve.job import Job
from keyvid.serve.job_folder import CLIP, PLOT, REPORT
from keyvid.serve.order import parse_fields
from keyvid.serve.upload import read_form
from keyvid.serve.workshop import Workshop

Answers = dict[int | str, dict[str, Any]]

_LOOK_EVERY_SECONDS = 0.2  # for what has changed of a job that somebody watches
_FILES = {CLIP: "video/mp4", REPORT: "application/json", PLOT: "image/png"}
_NO_JOB: Answers = {
    404: says("No such job"),
    410: says("The job was kept long enough, and is deleted"),
}
_NO_PAGE: Answers = {404: says("No such job to go on after"), 422: says("No such page")}
REFUSALS: Answers = {
    400: {"model": Detail, "description": "Not a form, or picture or sound are not in it"},
    408: {"model": Detail, "description": "The form did not come to its end in time"},
    413: {"model": Detail, "description": "More bytes than the server takes"},
    422: {"model": Detail, "description": "What is wrong with picture, sound or settings"},
    429: {"model": Detail, "description": "Too many wait; Retry-After says when to come again"},
    503: {"model": Detail, "description": "The server is stopping, or cannot keep orders now"},
}


def workshop_of(request: Request) -> Workshop:
    """The workshop behind the application."""
    workshop: Workshop = request.app.state.workshop
    return workshop


def root_of(request: Request) -> str:
    """The path of the server, "" or such as /keyvid."""
    root: str = request.scope.get("root_path", "")
    return root


def client_of(request: Request) -> str:
    """Who asks: a name, or an address."""
    address = request.client.host if request.client else ""
    client: str = getattr(request.state, "client", address)
    return client


Shop = Annotated[Workshop, Depends(workshop_of)]
Root = Annotated[str, Depends(root_of)]
Client = Annotated[str, Depends(client_of)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="An order with the same key is the same: it is made once, however often sent",
        min_length=1,
        max_length=255,
        pattern="^[!-~]*$",
    ),
]


def find_job(job_id: str, workshop: Shop) -> Job:
    """The job of that id.

    Raises:
        HTTPException: there is none.
    """
    job = workshop.find(job_id)
    if job is not None:
        return job
    if workshop.was_there(job_id):
        raise HTTPException(410, "the job was kept long enough, and is deleted; order it again")
    raise HTTPException(404, "no such job; it may have been deleted")


Found = Annotated[Job, Depends(find_job)]


def clips_router(workshop: Workshop) -> APIRouter:
    """The routes below /clips, described for the bundle of that workshop."""
    router = APIRouter(prefix="/clips", tags=["clips"])
    router.post(
        "",
        status_code=202,
        responses=REFUSALS,
        openapi_extra={"requestBody": form_schema(workshop.bundle)},
    )(order_a_clip)
    router.get("", responses=_NO_PAGE)(list_jobs)
    router.get("/{job_id}", responses=_NO_JOB)(look_at_a_job)
    router.get("/{job_id}/events", response_class=EventSourceResponse, responses=_NO_JOB)(
        watch_a_job
    )
    router.delete("/{job_id}", status_code=204, responses=_NO_JOB)(discard_a_job)
    for name, kind in _FILES.items():
        _add_file(router, name, kind)
    return router


async def order_a_clip(
    request: Request,
    response: Response,
    workshop: Shop,
    root: Root,
    client: Client,
    idempotency_key: IdempotencyKey = None,
) -> JobAnswer:
    """Order a clip of a picture and a sound; settings are those of `keyvid-infer`."""
    await to_thread.run_sync(workshop.check_open, client)  # before anything is received
    async with read_form(request, workshop.limits.upload_bytes) as form:
        files = {name: form.get(name) for name in ("image", "audio")}
        image, audio = files.values()
        if not isinstance(image, UploadFile) or not isinstance(audio, UploadFile):
            missing = [name for name, part in files.items() if not isinstance(part, UploadFile)]
            raise HTTPException(400, f"no file {' and '.join(missing)}; send image and audio")
        texts = {name: part for name, part in form.items() if isinstance(part, str)}
        webhook = texts.pop("webhook", "").strip()
        values = parse_fields(texts)
        parts = {"image": image.file, "audio": audio.file}
        job = await take_and_submit(
            request, workshop, client, parts, values, idempotency_key, webhook
        )
    answer = describe(job, workshop, root)
    response.headers["Location"] = answer.links.self
    return answer


async def take_and_submit(
    request: Request,
    workshop: Workshop,
    client: str,
    files: Mapping[str, IO[bytes]],
    values: Mapping[str, Any],
    key: str | None,
    webhook: str,
) -> Job:
    """The job of an order that is checked and kept, or that of the same order earlier.

    Args:
        files: picture and sound, in this order.
        key: by which the client knows the order again, None where it does not.
        webhook: where to tell when the job has ended, "" for nowhere.
    Raises:
        SettingsError: no webhook may be sent there.
        HTTPException: 410 or 422, the key belongs to another order.
    """
    workshop.check_webhook(webhook)
    job_id = digest = ""
    if key is not None:
        digest = await to_thread.run_sync(digest_of, files, {**values, "webhook": webhook})
        job_id = workshop.id_of(client, key)
        if job := await to_thread.run_sync(workshop.find, job_id):
            if job.digest != digest:
                raise HTTPException(422, f"Idempotency-Key {key}: was used for another order")
            return job
        if await to_thread.run_sync(workshop.was_there, job_id):
            raise HTTPException(410, f"Idempotency-Key {key}: its clip is deleted; take a new key")
    image, audio = files.values()
    async with workshop.turns.turn(client, request.is_disconnected):
        order = await workshop.take(image, audio, values)
    return await to_thread.run_sync(workshop.submit, order, client, digest, job_id, webhook)


def digest_of(files: Mapping[str, IO[bytes]], values: Mapping[str, Any]) -> str:
    """The same for the same order; the files stand where they stood."""
    digest = hashlib.sha256(repr(sorted(values.items())).encode())
    for name, file in files.items():
        digest.update(name.encode() + hashlib.sha256(file.read()).digest())
        file.seek(0)
    return digest.hexdigest()


def list_jobs(
    workshop: Shop,
    root: Root,
    client: Client,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="Id of the last job of a page")] = None,
) -> JobPage:
    """Your jobs, the newest first."""
    jobs, has_more = page_of(workshop, client, limit, after)
    following = f"{root}/clips?limit={limit}&after={jobs[-1].id}" if has_more else None
    return JobPage(jobs=[describe(job, workshop, root) for job in jobs], next=following)


def page_of(
    workshop: Workshop,
    client: str,
    limit: int,
    after: str | None,
    *,
    newest_first: bool = True,
) -> tuple[list[Job], bool]:
    """As `Workshop.page`; 404 where the last job that was seen is not there any more.

    An empty page would look like the end of them all.
    """
    try:
        return workshop.page(client, limit, after, newest_first=newest_first)
    except LookupError:
        raise HTTPException(
            404, "after is no job that is known, or no longer; begin again without it"
        ) from None


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
        if has_ended or workshop.is_over:
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
        return send_file(request, job.folder.path / name, kind, f"keyvid-{name}")
