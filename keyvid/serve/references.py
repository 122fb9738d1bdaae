"""Pictures and sounds that stand in an order of /v1/videos: files, or data URLs."""

import base64
import binascii
import io
from collections.abc import Mapping
from typing import IO, Any

from anyio import to_thread
from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile

from keyvid.serve.upload import parse_json, read_form, read_json

NAMES = {"input_reference": "image_url", "audio_reference": "audio_url"}
_PIECE = 1 << 20  # characters, a multiple of 4
_KINDS = {"input_reference": "image/png", "audio_reference": "audio/wav"}


def _file_of(name: str, value: Any) -> IO[bytes]:
    """The file that a reference holds.

    Args:
        value: an uploaded file, a data URL, or an object or its JSON text with one.
    Raises:
        HTTPException: it holds none.
    """
    advice = f"send a file or a data URL such as data:{_KINDS[name]};base64,..."
    if isinstance(value, UploadFile):
        return value.file
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = parse_json(value)
        except (ValueError, RecursionError):
            raise HTTPException(400, f"{name} is no JSON; {advice}") from None
    if isinstance(value, Mapping):
        value = value.get(NAMES[name])
    if not isinstance(value, str):
        raise HTTPException(400, f"{name} has no {NAMES[name]}; {advice}")
    if value.startswith(("http:", "https:")):
        raise HTTPException(400, f"{name}: nothing is fetched from addresses; {advice}")
    head, comma, content = value.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        # A file in `extra_body` is sent as its Python representation without a word.
        raise HTTPException(400, f"{name} is {value[:40]}; {advice}")
    try:
        return _decoded(content)
    except (binascii.Error, ValueError) as error:
        raise HTTPException(400, f"{name}: no base64: {error}; {advice}") from None


def _decoded(content: str) -> IO[bytes]:
    """What base64 holds; decoded in pieces, between which other threads have their turn.

    Raises:
        ValueError: it is none.
    """
    if "=" in content[:-2]:
        raise ValueError("padding before its end")
    file = io.BytesIO()
    for begin in range(0, len(content), _PIECE):
        file.write(base64.b64decode(content[begin : begin + _PIECE], validate=True))
    file.seek(0)
    return file


async def read_video_order(request: Request, most_bytes: int) -> tuple[dict[str, Any], ...]:
    """Files by the names of `NAMES`, and the other values of an order, a form or JSON.

    Raises:
        HTTPException: it is neither, too large, or a reference is none.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        values = await read_json(request, most_bytes)
        return await to_thread.run_sync(_sort, values)
    async with read_form(request, most_bytes, most_bytes) as form:
        files, rest = await to_thread.run_sync(_sort, dict(form))
        # The form's own files are closed with it.
        return {name: io.BytesIO(file.read()) for name, file in files.items()}, rest


def _sort(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    given: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in values.items():
        base = name.partition("[")[0]  # a nested value of a form, as audio_reference[audio_url]
        if base in NAMES:
            given[base] = value
        elif value is not None:
            rest[name] = value
    return {name: _file_of(name, value) for name, value in given.items() if value}, rest
