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


@router.get(
    "/readyz", responses={503: {"model": Detail, "description": "It is stopping, or has no store"}}
)
def is_ready(workshop: Shop) -> dict[str, str]:
    """Orders are taken and made, or refused only because too many wait."""
    if reason := workshop.why_not_ready:
        raise HTTPException(503, f"no orders are made: {reason}")
    return {"status": "ready"}


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE: {"schema": {"type": "string"}}}}},
)
def metrics(workshop: Shop) -> Response:
    """Numbers for Prometheus."""
    return Response(workshop.metrics.text(), media_type=CONTENT_TYPE)
