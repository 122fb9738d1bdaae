"""The nodes: what they take and give."""

import json
import math
import os
from io import BytesIO
from typing import Any

from comfy_api.latest import InputImpl, io

from .making import made_here
from .server import made_on_server
from .tensors import picture_of, sound_of
from .work import Work

CATEGORY = "video/keyvid"
MOST_SEED = 2**32 - 1
QUALITIES = ("balanced", "fast", "exact")
ENGINES = ("auto", "openvino", "onnxruntime", "openvino-bf16", "cuda", "tensorrt", "tensorrt-rtx")


def _inputs() -> list[Any]:
    """What both nodes take; a text that is left empty keeps the default."""
    return [
        io.Image.Input("image", tooltip="The first frame; of several, the first is taken"),
        io.Audio.Input("audio", tooltip="What the clip moves to, and its sound"),
        io.String.Input("prompt", default="", tooltip="What is seen and heard, in a few words"),
        io.Int.Input("seed", default=0, min=0, max=MOST_SEED, control_after_generate=True),
        io.Combo.Input("quality", options=list(QUALITIES), default=QUALITIES[0]),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="0 for those of the quality"),
        io.String.Input(
            "length", default="", tooltip="Seconds, or full for the whole sound; empty for 2 s"
        ),
        io.Image.Input(
            "end", optional=True, tooltip="The last frame; connect the first one again for a loop"
        ),
        io.String.Input(
            "motion",
            optional=True,
            default="auto",
            tooltip="auto, or how much moves in each frame: numbers, such as another node gives",
        ),
        io.String.Input(
            "keyframes",
            optional=True,
            default="auto",
            tooltip="auto, uniform, or numbers of frames, such as another node gives",
        ),
    ]


def _schema(name: str, title: str, description: str, *more: Any) -> Any:
    """What a node takes and gives.

    Args:
        more: inputs that only this one has.
    """
    return io.Schema(
        node_id=name,
        display_name=f"KeyVID: {title}",
        category=CATEGORY,
        description=description,
        inputs=[*_inputs(), *more],
        outputs=_outputs(),
    )


def _outputs() -> list[Any]:
    return [
        io.Video.Output(
            "video",
            display_name="video",
            tooltip="With its sound and its receipt; Save Video keeps both",
        ),
        io.String.Output(
            "used_motion", display_name="motion", tooltip="How much moves in each frame"
        ),
        io.String.Output(
            "used_keyframes", display_name="keyframes", tooltip="The frames that were made first"
        ),
        io.String.Output("report", display_name="report", tooltip="How the clip was made, as JSON"),
    ]


def _work(image: Any, audio: Any, end: Any, **choices: Any) -> Work:
    """What is to be made, with all choices left out that are empty."""
    given = {name: value for name, value in choices.items() if value not in ("", 0, None)}
    last = None if end is None else picture_of(end)
    return Work(picture_of(image), sound_of(audio), last, {**given, "seed": choices["seed"]})


def _result(video: bytes, report: dict[str, Any]) -> Any:
    keyframes = ",".join(str(number) for number in report["keyframes"])
    motion = ",".join(f"{value:g}" for value in report["motion"])
    made = InputImpl.VideoFromFile(BytesIO(video))
    return io.NodeOutput(made, motion, keyframes, json.dumps(report, indent=1))


class Animate(io.ComfyNode):
    """Makes clips in this process; the networks stay open for the next one."""

    @classmethod
    def define_schema(cls) -> Any:
        """What the node takes and gives."""
        return _schema(
            "KeyVIDAnimate",
            "animate a picture to a sound",
            "Makes a video in which things move when they are heard.",
            io.String.Input("bundle", default="tiny", tooltip="A packaged model or a folder"),
            io.Combo.Input("engine", options=list(ENGINES), default=ENGINES[0]),
        )

    @classmethod
    def execute(cls, bundle: str, engine: str, **inputs: Any) -> Any:
        """The clip, its motion and keyframes, its report."""
        return _result(*made_here(_work(**{"end": None, **inputs}), bundle, engine))


class AnimateOnServer(io.ComfyNode):
    """Orders clips of a keyvid-serve; KEYVID_TOKEN in the environment is its token."""

    @classmethod
    def define_schema(cls) -> Any:
        """What the node takes and gives."""
        return _schema(
            "KeyVIDAnimateOnServer",
            "animate on a server",
            "Has a keyvid-serve make the video. Its token is read from the "
            "environment variable KEYVID_TOKEN, as workflows are shared.",
            io.String.Input("server", default="http://127.0.0.1:7860"),
            io.Float.Input(
                "timeout", default=600.0, min=1.0, max=86_400.0, tooltip="Seconds to wait"
            ),
        )

    @classmethod
    def execute(cls, server: str, timeout: float, **inputs: Any) -> Any:
        """The clip, its motion and keyframes, its report."""
        work = _work(**{"end": None, **inputs})
        token = os.environ.get("KEYVID_TOKEN", "")
        return _result(*made_on_server(work, server, token, math.ceil(timeout)))
