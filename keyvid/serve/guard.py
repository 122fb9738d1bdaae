"""Who may come in, how many at a time, and what their browsers may do with the answers."""

import base64
import binascii
import secrets
from collections import Counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyvid.serve.hosts import Hosts, is_same_origin
from keyvid.serve.metrics import Metrics
from keyvid.serve.problems import path_of, problem

MOST_REQUESTS = 200  # at a time
MOST_OF_ONE = 100  # address

_OPEN_TO_ALL = ("/healthz", "/readyz")
_READS_ONLY = ("GET", "HEAD", "OPTIONS")
_CHALLENGE = {"WWW-Authenticate": 'Bearer, Basic realm="keyvid: the token is the password"'}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' blob: data:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Guard:
    """ASGI middleware: asks who it is, counts the answers, and tells browsers to be strict.

    Args:
        token: given as `Authorization: Bearer TOKEN`, or as the password that a browser asks for;
            None lets everybody in.
        hosts: by which the server may be called.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Hosts, metrics: Metrics) -> None:
        self._app = app
        self._token = token
        self._hosts = hosts
        self._metrics = metrics
        self._inside: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.responses.labels(message["status"]).inc()
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        client = (scope.get("client") or ("",))[0]
        refusal = self._refusal(scope, client)
        if refusal:
            await refusal(scope, receive, send_on)
            return
        self._inside[client] += 1
        try:
            await self._app(scope, receive, send_on)
        finally:
            self._inside[client] -= 1
            self._inside += Counter()  # forgets those that have left

    def _refusal(self, scope: Scope, client: str) -> Response | None:
        """The answer to a request that does not come in."""
        path = path_of(scope)
        if path in _OPEN_TO_ALL:
            return None
        headers = Headers(scope=scope)
        if not self._hosts.know(host := headers.get("host", "")):
            detail = (
                f"this server is not called {host[:80]!r}; --allow-host names what it is called"
            )
            return problem(path, 421, detail)
        if scope["method"] not in _READS_ONLY and not _is_of_this_site(headers):
            return problem(path, 403, "another site's page asks for this; open the server's own")
        if not self._knows(headers.get("authorization", "")):
            detail = "the token is missing or wrong; send 'Authorization: Bearer TOKEN'"
            return problem(path, 401, detail, _CHALLENGE)
        if self._inside[client] >= MOST_OF_ONE or self._inside.total() >= MOST_REQUESTS:
            return problem(path, 503, "too many requests at a time", {"Retry-After": "1"})
        return None

    def _knows(self, authorization: str) -> bool:
        if self._token is None:
            return True
        kind, _, given = authorization.partition(" ")
        secret = given.strip().encode("latin-1")
        if kind.lower() == "basic":
            try:
                secret = base64.b64decode(secret).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind.lower() != "bearer":
            return False
        return secrets.compare_digest(secret, self._token.encode())


def _is_of_this_site(headers: Headers) -> bool:
    """Whether no browser says that a page of another site is behind a request."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or is_same_origin(origin, headers.get("host", ""))
