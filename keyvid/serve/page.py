"""The page, and the description of the interface for people: static files of this server alone."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

from keyvid.serve.files import send_file

_OURS = Path(__file__).parent / "static"
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

docs = APIRouter(include_in_schema=False)
page = APIRouter(include_in_schema=False)


@page.get("/")
def show_the_page(request: Request) -> Response:
    """Where a visitor begins."""
    return _send(request, _OURS / "index.html")


@docs.get("/docs")
def show_the_docs(request: Request) -> Response:
    """The interface, to read and to try."""
    return _send(request, _OURS / "docs.html")


@docs.get("/static/{name}")
def fetch_a_part(request: Request, name: str) -> Response:
    """A file of ours."""
    return _fetch(request, _OURS, name)


@docs.get("/docs/{name}")
def fetch_a_part_of_swagger(request: Request, name: str) -> Response:
    """A file of Swagger UI, as the package `fastapi-offline` brings it."""
    return _fetch(request, Path(str(files("fastapi_offline"))) / "static", name)


def _fetch(request: Request, folder: Path, name: str) -> Response:
    for path in folder.iterdir():
        if path.name == name and path.suffix in _KINDS:
            return _send(request, path)
    raise HTTPException(404, "not found")


def _send(request: Request, path: Path) -> Response:
    return send_file(request, path, _KINDS[path.suffix])
