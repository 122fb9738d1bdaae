"""What clips of this server are like, and examples to begin with."""

from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from keyvid.serve.answers import says
from keyvid.serve.clips import Root, Shop
from keyvid.serve.files import send_file

_FOLDER = Path(__file__).parents[1] / "examples"
_KINDS = {".png": "image/png", ".wav": "audio/wav"}

router = APIRouter(tags=["model"])


class Model(BaseModel):
    """The bundle that makes the clips, and what the server takes at most.

    Attributes:
        width, height: of a clip in pixels, with scale 1.
        frames: of a clip whose length is not given.
        keyframes: frames that are generated first.
        most_seconds: of a clip.
        most_bytes: of an order.
        keep_seconds: that a finished clip can be fetched.
    """

    name: str
    width: int
    height: int
    fps: int
    frames: int
    keyframes: int
    most_seconds: float
    most_bytes: int
    keep_seconds: float


class Example(BaseModel):
    """A picture and a sound to begin with; image and audio are paths on this server."""

    name: str
    prompt: str
    image: str
    audio: str


@router.get("/model")
def describe_the_model(workshop: Shop) -> Model:
    """What clips of this server are like."""
    size, limits = workshop.bundle.dimensions, workshop.limits
    return Model(
        name=workshop.bundle.name,
        width=size.width,
        height=size.height,
        fps=size.fps,
        frames=size.frames,
        keyframes=size.keyframes,
        most_seconds=limits.seconds,
        most_bytes=limits.upload_bytes,
        keep_seconds=limits.keep_seconds,
    )


@router.get("/examples")
def list_examples(root: Root) -> list[Example]:
    """Pictures and sounds to begin with."""
    names = [picture.stem for picture in sorted(_FOLDER.glob("*.png"))]
    here = f"{root}/examples"
    return [
        Example(name=name, prompt=name, image=f"{here}/{name}.png", audio=f"{here}/{name}.wav")
        for name in names
    ]


@router.get(
    "/examples/{file}",
    response_class=FileResponse,
    responses={
        200: {"content": {kind: {"schema": {"type": "string"}} for kind in _KINDS.values()}},
        304: {"description": "It is what If-None-Match names"},
        404: says("No such example"),
    },
)
def fetch_an_example(request: Request, file: str) -> Response:
    """A picture or a sound of an example."""
    for path in _FOLDER.iterdir():
        if path.name == file and path.suffix in _KINDS:
            return send_file(request, path, _KINDS[path.suffix])
    raise HTTPException(404, "no such example; /examples lists them")
