"""Whether the server lives and takes orders, and its numbers."""

from fastapi import APIRouter, HTTPException, Response

from keyvid.serve.answers import Detail
from keyvid.serve.clips import Shop
from keyvid.serve.metrics import CONTENT_TYPE

router = APIRouter(tags=["health"])


@router.get("/healthz")
def is_alive() -> dict[str, str]:
    """The server answers."""
    return {"status": "alive"}


@router.get("/readyz", responses={503: {"model": Detail, "description": "It is stopping"}})
def is_ready(workshop: Shop) -> dict[str, str]:
    """Orders are taken, or are refused only because too many wait."""
    if not workshop.is_ready:
        raise HTTPException(503, "no orders are taken: the server is stopping")
    return {"status": "ready"}


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
def metrics(workshop: Shop) -> Response:
    """Numbers for Prometheus."""
    return Response(workshop.metrics.text(), media_type=CONTENT_TYPE)
