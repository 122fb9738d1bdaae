"""The application: all that the server answers, around a workshop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import to_thread
from fastapi import FastAPI

from keyvid.serve import health, model
from keyvid.serve.answers import says
from keyvid.serve.clips import Answers, clips_router
from keyvid.serve.guard import Guard
from keyvid.serve.head import HeadAsGet
from keyvid.serve.hosts import Hosts
from keyvid.serve.page import docs, page
from keyvid.serve.problems import explain_problems
from keyvid.serve.record import Record
from keyvid.serve.tokens import Tokens
from keyvid.serve.videos import videos_router
from keyvid.serve.workshop import Workshop

_UPLOADS_AT_A_TIME = 8  # of the largest
_DISCARD_EVERY_SECONDS = 5.0
_AT_THE_DOOR: Answers = {
    401: says("The token is missing or wrong"),
    403: says("A page of another site asks"),
    421: says("The server is not called so; see --allow-host"),
    429: says("Too much at a time; Retry-After says when to come again"),
    503: says("Too many requests at a time"),
}


def make_app(
    workshop: Workshop,
    tokens: Tokens | None = None,
    hosts: Hosts | None = None,
    has_page: bool = True,
) -> FastAPI:
    """The application around `workshop`, which works as long as the application runs.

    Args:
        tokens: of which one is asked for, None for none.
        hosts: by which it may be called, None for those of this machine alone.
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
        docs_url=None,
        redoc_url=None,
        responses=_AT_THE_DOOR,
    )
    app.state.workshop = workshop
    app.add_middleware(HeadAsGet)
    most_bytes = _UPLOADS_AT_A_TIME * workshop.limits.upload_bytes
    app.add_middleware(Guard, tokens=tokens, hosts=hosts or Hosts(), most_bytes=most_bytes)
    app.add_middleware(Record, metrics=workshop.metrics)
    explain_problems(app)
    routers = (clips_router(workshop), videos_router(workshop), model.router, health.router, docs)
    for router in routers:
        app.include_router(router)
    if has_page:
        app.include_router(page)
    return app


async def _discard_now_and_then(workshop: Workshop) -> None:
    while True:
        await asyncio.sleep(min(_DISCARD_EVERY_SECONDS, workshop.limits.keep_seconds))
        await to_thread.run_sync(workshop.discard_old)
