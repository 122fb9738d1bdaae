"""Files as answers: whole, in part, or not again where the client has them."""

from pathlib import Path

from fastapi import Request, Response
from fastapi.responses import FileResponse


def send_file(request: Request, path: Path, kind: str, name: str | None = None) -> Response:
    """The file at `path`, or 304 where `If-None-Match` names what it is.

    Args:
        name: under which a browser would keep it.
    """
    answer = FileResponse(
        path,
        media_type=kind,
        stat_result=path.stat(),
        filename=name,
        content_disposition_type="inline",
        headers={"Cache-Control": "private, no-cache"},
    )
    etag = answer.headers["etag"]
    known = request.headers.get("if-none-match", "")
    if etag in [tag.strip().removeprefix("W/") for tag in known.split(",")] or known == "*":
        kept = {name: answer.headers[name] for name in ("etag", "last-modified", "cache-control")}
        return Response(status_code=304, headers=kept)
    return answer
