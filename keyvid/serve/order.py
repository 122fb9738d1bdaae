"""An order: picture, sound and settings of a clip, checked before they wait for their turn."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

from PIL import Image

from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media.arguments import parse_time
from keyvid.runtime.media.sound import sound_duration
from keyvid.runtime.media.video import check_scale
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.request import FULL, Request
from keyvid.sampling import Option, settings_from
from keyvid.sampling import options as sampling_options
from keyvid.serve.limits import Limits

FIELDS = (
    Option("prompt", str, (), "What is seen and heard, in a few words"),
    Option("seed", int, (), "Of all noise: same seed, same clip"),
    Option("start", str, (), "Of the sound: seconds, or as 1:02.5"),
    Option("length", str, (), "Seconds, or full for all that the sound has"),
    Option("fit", str, ("crop", "pad"), "crop, or pad to show all of the picture"),
    Option("position", str, (), "Of the crop: centre, top, bottom, left, right or x,y from 0 to 1"),
    Option("scale", int, (), "How many times larger to write the clip"),
    Option("keyframes", str, (), "auto, uniform or 0,3,..."),
    *sampling_options(),
    Option("cfg_batch", int, (), "Guidance branches per call"),
)
_OF_REQUEST = ("prompt", "seed", "start", "length", "fit", "position", "keyframes")
_LONGEST_PROMPT = 2000  # characters: more than any tokenizer here takes in


@dataclass(frozen=True)
class Order:
    """A clip that can be made.

    Attributes:
        request: with the pixels and samples that are needed, so that no upload is kept.
        num_frames: of the clip.
        scale: how many times larger it is written.
        asked: what was asked for, by the names of `FIELDS`.
        remarks: what the reader of picture and sound has to say.
    """

    request: Request
    num_frames: int
    scale: int
    asked: dict[str, Any]
    remarks: tuple[str, ...]


def field_name(option: Option) -> str:
    """The name of a form field: that of the command line's option."""
    return option.name.replace("_", "-")


def parse_fields(texts: Mapping[str, str]) -> dict[str, Any]:
    """Values by the names of `FIELDS`; an empty text counts as left out.

    Raises:
        SettingsError: says which names there are, or what the value should be.
    """
    known = {option.name: option for option in FIELDS}
    values: dict[str, Any] = {}
    for name, text in texts.items():
        option = known.get(name.replace("-", "_"))
        if option is None:
            names = ", ".join(map(field_name, FIELDS))
            raise SettingsError(f"{name!r:.40}: no such field; want one of {names}")
        if not text.strip():
            continue
        try:
            values[option.name] = option.kind(text.strip())
        except ValueError:
            wanted = {int: "a whole number", float: "a number"}[option.kind]
            raise SettingsError(f"{field_name(option)} {text[:40]}: want {wanted}") from None
    return values


def take_order(
    pipeline: Pipeline,
    limits: Limits,
    image: IO[bytes],
    audio: IO[bytes],
    values: Mapping[str, Any],
) -> Order:
    """Read and check all that is asked for.

    Args:
        image, audio: open files.
        values: by the names of `FIELDS`.
    Raises:
        MediaError, SettingsError: what is wrong with it, as `keyvid-infer` says it.
    """
    settings = {name: value for name, value in values.items() if name not in _OF_REQUEST}
    scale = settings.pop("scale", 1)
    check_scale(scale)
    cfg_batch = settings.pop("cfg_batch", None)
    asked = {name: values[name] for name in _OF_REQUEST if name in values}
    request = Request(image, audio, settings=settings_from(settings, cfg_batch), **asked)
    if len(request.prompt) > _LONGEST_PROMPT:
        raise SettingsError(
            f"prompt has {len(request.prompt)} characters; want {_LONGEST_PROMPT} at most"
        )
    _check_pixels(image, limits.pixels)
    _check_seconds(request, pipeline, limits.seconds)
    with _remarks() as remarks:
        inputs = pipeline.check(request)
    fps = pipeline.bundle.dimensions.fps
    ready = replace(
        request,
        image=inputs.picture,
        audio=(inputs.sound.samples, inputs.sound.rate),
        start=0.0,
        length=inputs.num_frames / fps,
        fit="crop",
        position="centre",
    )
    return Order(ready, inputs.num_frames, scale, dict(values), tuple(remarks))


def _check_pixels(file: IO[bytes], most: int) -> None:
    """Refuse a picture by what its header says; a header that says nothing is refused later."""
    size = (0, 0)
    with suppress(Exception), Image.open(file) as image:  # Pillow raises almost anything
        size = image.size
    file.seek(0)
    if size[0] * size[1] > most:
        raise MediaError(f"the picture: has more than {most:,} pixels; shrink it first")


def _check_seconds(request: Request, pipeline: Pipeline, most: float) -> None:
    if request.length is None:
        return
    if request.length == FULL:
        seconds = sound_duration(request.audio) - parse_time(request.start)
        request.audio.seek(0)  # type: ignore[union-attr] # an open file
    else:
        seconds = parse_time(request.length, "length")
    if seconds > most + 1 / pipeline.bundle.dimensions.fps:
        raise SettingsError(
            f"length is {seconds:.2f} s, this server makes clips of {most:g} s at most; "
            "ask for fewer seconds"
        )


@contextmanager
def _remarks() -> Iterator[list[str]]:
    """The warnings of this thread meanwhile, as users of the command line see them."""
    found: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                found.append(record.getMessage())

    handler = Collector(logging.WARNING)
    log = logging.getLogger("keyvid")
    log.addHandler(handler)
    try:
        yield found
    finally:
        log.removeHandler(handler)
