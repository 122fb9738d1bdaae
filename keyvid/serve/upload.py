"""A form with files, read no further than the limit allows.

The parser keeps files in memory, or larger ones in temporary files that have no name.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import HTTPException, Request
from starlette.datastructures import FormData
from starlette.types import Message

from keyvid.sizes import format_size

_MOST_SECONDS = 60.0  # until a form has to be here
_MOST_FIELDS = 100
_MOST_FIELD_BYTES = 1 << 16


@asynccontextmanager
async def read_form(request: Request, most_bytes: int, most_files: int) -> AsyncIterator[FormData]:
    """The form that `request` brings.

    Raises:
        HTTPException: 400, 408 or 413, with what is wrong with it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise HTTPException(400, f"the body is {kind or 'of no kind'}; send multipart/form-data")
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

    limited = Request(request.scope, receive)
    form = limited.form(
        max_files=most_files, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES
    )
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            parts = await form
    except TimeoutError:
        raise HTTPException(408, f"the form took more than {_MOST_SECONDS:g} s") from None
    try:
        yield parts
    finally:
        await parts.close()
