"""Answers that say why something was not done, in one line."""

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from keyvid.errors import KeyvidError
from keyvid.serve.workshop import RefusedError

_STATUS = {"queue": 429, "client": 429, "twice": 409}  # 503 for all others
_LONGEST = 40  # characters of a value that is not valid
_WANTED = {  # by the kinds of errors that queries and headers can have
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "greater_than_equal": "{ge} at least",
    "less_than_equal": "{le} at most",
    "literal_error": "{expected}",
    "string_too_short": "{min_length} character at least",
    "string_too_long": "{max_length} characters at most",
    "string_pattern_mismatch": "visible characters of ASCII",
}
_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")


def path_of(scope: Scope) -> str:
    """The path of a request below the server's root."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def problem(
    path: str, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in the words of the interface that `path` belongs to."""
    content: dict[str, object] = {"detail": detail}
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        content = {"error": {"message": detail, "type": kind, "param": None, "code": None}}
    return JSONResponse(content, status, headers)


def explain_problems(app: FastAPI) -> None:
    """Answer the errors of `app` so."""
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(KeyvidError, _mistake)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _other)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    headers = {"Retry-After": str(error.retry_after)}
    return problem(path_of(request.scope), _STATUS.get(error.reason, 503), str(error), headers)


async def _mistake(request: Request, error: Exception) -> Response:
    return problem(path_of(request.scope), 422, str(error))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    given = str(first["input"])
    given = ascii(given if len(given) <= _LONGEST else f"{given[:_LONGEST]}...")
    wanted = _WANTED.get(first["type"], "another value").format_map(first.get("ctx", {}))
    return problem(path_of(request.scope), 422, f"{first['loc'][-1]} is {given}; want {wanted}")


async def _other(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_allowed(request))
    return problem(path_of(request.scope), error.status_code, error.detail, headers)


def _allowed(request: Request) -> list[str]:
    """The methods that the path of a request knows, those of all its routes together."""

    def is_known(method: str) -> bool:
        scope = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    return [method for method in _METHODS if is_known(method)]
