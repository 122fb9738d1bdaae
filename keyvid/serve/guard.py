"""Who may come in: a token is asked for where the server has one."""

import base64
import binascii
import secrets

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyvid.serve.metrics import Metrics

_OPEN_TO_ALL = ("/healthz", "/readyz")
# Of the page's framework: it would fetch any address for whoever asks.
_NEVER = "/gradio_api/file=http"
_CHALLENGE = {"WWW-Authenticate": 'Bearer, Basic realm="keyvid: the token is the password"'}


class Guard:
    """ASGI middleware: asks for the token, and counts the answers.

    Args:
        token: given as `Authorization: Bearer TOKEN`, or as the password that a browser asks for;
            None lets everybody in.
    """

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics) -> None:
        self._app = app
        self._token = token
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responses.labels(message["status"]).inc()
            await send(message)

        app = self._app
        if not self._knows(scope):
            detail = "the token is missing or wrong; send 'Authorization: Bearer TOKEN'"
            app = JSONResponse({"detail": detail}, 401, _CHALLENGE)
        elif scope["path"].lower().startswith(_NEVER):
            app = JSONResponse({"detail": "not found"}, 404)
        await app(scope, receive, count)

    def _knows(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in _OPEN_TO_ALL:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, secret = given.partition(b" ")
        if kind.lower() == b"basic":
            try:
                secret = base64.b64decode(secret).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != b"bearer":
            return False
        return secrets.compare_digest(secret.strip(), self._token.encode())
