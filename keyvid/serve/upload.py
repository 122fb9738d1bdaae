"""A form with files, or JSON, read no further than the limit allows.

The parser keeps files in memory, or larger ones in temporary files that have no name.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio import to_thread
from fastapi import HTTPException, Request
from starlette.datastructures import FormData
from starlette.types import Message

from keyvid.sizes import format_size

_MOST_SECONDS = 60.0  # until a form has to be here
_MOST_FIELDS = 100
_MOST_FILES = 2
_MOST_VALUES = 10_000  # in JSON

Body = TypeVar("Body")


@asynccontextmanager
async def read_form(
    request: Request, most_bytes: int, most_field_bytes: int = 1 << 16
) -> AsyncIterator[FormData]:
    """The form that `request` brings.

    Args:
        most_field_bytes: of a value that is no file.
    Raises:
        HTTPException: 400, 408 or 413, with what is wrong with it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(400, f"the body is {kind or 'of no kind'}; send multipart/form-data")
    limited = _limited(request, most_bytes)
    form = limited.form(
        max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=most_field_bytes
    )
    parts = await _in_time(form)
    try:
        yield parts
    finally:
        await parts.close()


async def read_json(request: Request, most_bytes: int) -> dict[str, Any]:
    """The object that `request` brings.

    Raises:
        HTTPException: 400, 408 or 413, with what is wrong with it.
    """
    try:
        body = await _in_time(_limited(request, most_bytes).body())
        content = await to_thread.run_sync(parse_json, body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON; send an object") from None
    if not isinstance(content, dict):
        raise HTTPException(400, f"the body is a {type(content).__name__}; send an object")
    return content


def parse_json(text: str | bytes) -> Any:
    """What `text` holds, which may be large, but only for its strings.

    Millions of values would take seconds, and a thread of their own would not help: the parser
    lets no other run. Base64 holds none of the characters that are counted.

    Raises:
        HTTPException: 400, it holds very many values.
        RecursionError, ValueError: it is no JSON.
    """
    content = text.encode() if isinstance(text, str) else text
    if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise HTTPException(400, f"the JSON holds more than {_MOST_VALUES} values; send fewer")
    return json.loads(content)


async def _in_time(body: Awaitable[Body]) -> Body:
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            return await body
    except TimeoutError:
        raise HTTPException(408, f"the order took more than {_MOST_SECONDS:g} s") from None


def _limited(request: Request, most_bytes: int) -> Request:
    """The same request, which refuses to bring more than that."""
    too_large = HTTPException(413, f"more than {format_size(most_bytes)}; send less")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise too_large
    received = 0

    async def receive() -> Message:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > most_bytes:
            raise too_large
        return message

    return Request(request.scope, receive)
