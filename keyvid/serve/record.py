"""A line in the log and a count for each request."""

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyvid.serve import logbook
from keyvid.serve.metrics import Metrics

_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
_ASKED_ALL_THE_TIME = frozenset(("/healthz", "/readyz", "/metrics"))  # by machines
_LONGEST = 200  # characters of a path


class Record:
    """ASGI middleware: notes what was asked, by whom, and what came of it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note it when its answer is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status: int | None = None  # while no answer has begun, and where nobody waits for one

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception:
            status = status or 500  # which is sent further outside
            raise
        finally:
            self._note(scope, status, time.perf_counter() - begun)

    def _note(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = _route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status or "none")).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if route in _ASKED_ALL_THE_TIME and status == 200:
            return
        address = (scope.get("client") or ("",))[0]
        client = scope.get("state", {}).get("client", address)
        path: Any = scope.get("raw_path") or scope["path"].encode()
        logbook.note(
            "request",
            client=client,
            address=None if client == address else address,
            method=method,
            path=path.decode("latin-1")[:_LONGEST],
            status=status,
            seconds=round(seconds, 3),
        )


def _route_of(scope: Scope) -> str:
    """The path with names for its parts, such as /clips/{job_id}: there are few of them."""
    return getattr(scope.get("route"), "path", "none")
