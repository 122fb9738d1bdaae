"""Who may come in, how many at a time, and what their browsers may do with the answers."""

import base64
import binascii
import math
from collections import Counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keyvid.serve.hosts import Hosts, is_same_origin, network_of
from keyvid.serve.problems import path_of, problem
from keyvid.serve.tokens import Attempts, Tokens

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
    """ASGI middleware: asks who it is, and tells browsers to be strict.

    Who it is stands in `request.state.client` then: the name that belongs to the token, or the
    address where there is no name.

    Args:
        tokens: given as `Authorization: Bearer TOKEN`, or as the password that a browser asks for;
            None lets everybody in.
        hosts: by which the server may be called.
        most_bytes: of the bodies of all requests that are in the making, those of one address may
            be a quarter. All of it may be in memory, several times over.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens | None, hosts: Hosts, most_bytes: int = 1 << 30
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = hosts
        self._most_bytes = most_bytes
        self._attempts = Attempts()
        self._inside: Counter[str] = Counter()  # requests by network
        self._held: Counter[str] = Counter()  # bytes of their bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        address = (scope.get("client") or ("",))[0]
        scope["state"] = {**scope.get("state", {}), "client": address}
        refusal = self._refusal(scope, address)
        if refusal:
            await refusal(scope, receive, send_on)
            return
        await self._let_in(network_of(address), scope, receive, send_on)

    async def _let_in(self, network: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it and its body meanwhile."""
        received = 0

        async def receive_on() -> Message:
            nonlocal received
            message = await receive()
            length = len(message.get("body", b""))
            of_one = self._held[network] > self._most_bytes / 4
            if length and (of_one or self._held.total() > self._most_bytes):
                raise HTTPException(503, "too much is sent at a time", {"Retry-After": "2"})
            received += length
            self._held[network] += length
            return message

        self._inside[network] += 1
        try:
            await self._app(scope, receive_on, send)
        finally:
            self._inside[network] -= 1
            self._held[network] -= received
            self._inside += Counter()  # forgets those that have left
            self._held += Counter()

    def _refusal(self, scope: Scope, address: str) -> Response | None:
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
        if stranger := self._check_token(scope, headers.get("authorization"), address):
            return stranger
        if (
            self._inside[network_of(address)] >= MOST_OF_ONE
            or self._inside.total() >= MOST_REQUESTS
        ):
            return problem(path, 503, "too many requests at a time", {"Retry-After": "1"})
        return None

    def _check_token(self, scope: Scope, header: str | None, address: str) -> Response | None:
        """The answer to who has no token; notes the name of who has one."""
        if self._tokens is None:
            return None
        path = path_of(scope)
        if header is not None:
            if wait := self._attempts.seconds_to_wait(address):
                retry = {"Retry-After": str(math.ceil(wait))}
                return problem(path, 429, "too many wrong tokens came from this address", retry)
            name = self._tokens.name_of(_secret_of(header))
            if name is not None:
                scope["state"]["client"] = name or address
                return None
            self._attempts.count(address)
        detail = "the token is missing or wrong; send 'Authorization: Bearer TOKEN'"
        return problem(path, 401, detail, _CHALLENGE)


def _secret_of(authorization: str) -> bytes:
    """The token in an `Authorization` header, b"" for none."""
    kind, _, given = authorization.partition(" ")
    secret = given.strip().encode("latin-1")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(secret).partition(b":")[2]
        except binascii.Error:
            return b""
    return secret if kind.lower() == "bearer" else b""


def _is_of_this_site(headers: Headers) -> bool:
    """Whether no browser says that a page of another site is behind a request."""
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    return origin is None or is_same_origin(origin, headers.get("host", ""))
