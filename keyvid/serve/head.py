"""HEAD for each path that knows GET: the same answer without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class _BodyBegins(Exception):  # noqa: N818 # no error: all that was asked for is sent
    """Ends the making of an answer where its body would begin."""


class HeadAsGet:
    """ASGI middleware: asks the application with GET, and sends what comes before the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            else:
                raise _BodyBegins

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send_head)
        except* _BodyBegins:
            await send({"type": "http.response.body", "body": b""})
        finally:
            scope["route"] = asked.get("route")
