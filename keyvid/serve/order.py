"""An order: picture, sound and settings of a clip, checked before they wait for their turn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from keyvid.bundle.manifest import Bundle
from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media.arguments import parse_time
from keyvid.runtime.media.picture import picture_size
from keyvid.runtime.media.sound import sound_duration
from keyvid.runtime.media.video import check_scale
from keyvid.runtime.motion import files_told
from keyvid.runtime.request import FULL, Prepared, Request, prepare, request_from
from keyvid.serve.limits import Limits
from keyvid.vocabulary import Outputs, options

FIELDS = tuple(option for option in options() if not option.is_file)
_LONGEST_PROMPT = 2000  # characters: more than any tokenizer here takes in


@dataclass(frozen=True)
class Order:
    """A clip that can be made.

    Attributes:
        prepared: the pixels and samples that are needed, so that no upload is kept.
        scale: how many times larger it is written.
    """

    prepared: Prepared
    scale: int


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
            names = ", ".join([*(option.dashed for option in FIELDS), "webhook"])
            raise SettingsError(f"{name!r:.40}: no such field; want one of {names}")
        if not text.strip():
            continue
        try:
            values[option.name] = option.value_of(text)
        except ValueError as error:
            raise SettingsError(f"{option.dashed} {text[:40]}: {error}") from None
    return values


def take_order(
    bundle: Bundle,
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
    chosen = dict(values)
    scale = chosen.pop("scale", Outputs.scale)
    check_scale(scale)
    for name in files_told(chosen):
        raise SettingsError(f"{name}: the server reads no files; want the values themselves")
    request = request_from(image, audio, chosen)
    prompt = request.prompt or ""
    if len(prompt) > _LONGEST_PROMPT:
        raise SettingsError(f"prompt has {len(prompt)} characters; want {_LONGEST_PROMPT} at most")
    _check_pixels(image, limits.pixels)
    _check_seconds(request, bundle, limits.seconds)
    return Order(prepare(request, bundle), scale)


def _check_pixels(file: IO[bytes], most: int) -> None:
    """Refuse a picture by what its header says."""
    width, height = picture_size(file)
    file.seek(0)
    if width * height > most:
        raise MediaError(f"the picture: has more than {most:,} pixels; shrink it first")


def _check_seconds(request: Request, bundle: Bundle, most: float) -> None:
    if request.length is None:
        return
    if request.length == FULL:
        seconds = sound_duration(request.audio, request.track) - parse_time(request.start)
        request.audio.seek(0)  # type: ignore[union-attr] # an open file
    else:
        seconds = parse_time(request.length, "length")
    if seconds > most + 1 / bundle.dimensions.fps:
        raise SettingsError(
            f"length is {seconds:.2f} s, this server makes clips of {most:g} s at most; "
            "ask for fewer seconds"
        )
