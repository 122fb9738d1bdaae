"""The request for a clip, and its prepared form: checked, loaded and resolved."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Dimensions
from keyvid.errors import SettingsError
from keyvid.provenance.receipt import Reading
from keyvid.remarks import collected
from keyvid.runtime.diffusion.guidance import count_branches
from keyvid.runtime.diffusion.noise import check_seed
from keyvid.runtime.diffusion.segments import read_keyframes
from keyvid.runtime.media.arguments import parse_position, parse_time
from keyvid.runtime.media.picture import ImageSource, load_image
from keyvid.runtime.media.sound import AudioSource, Sound, load_sound, read_sound, to_mono
from keyvid.runtime.motion import (
    FIRST,
    PACKAGED,
    files_told,
    is_word,
    keyframes_text,
    read_beats,
    read_motion,
)
from keyvid.runtime.networks.budget import check_cfg_batch
from keyvid.sampling import Sampling, resolve, settings_from
from keyvid.vocabulary import ClipChoices, names_of_choices

FULL = "full"
LOCALIZER = "localizer"
MAX_SECONDS = 3600.0  # of a clip


@dataclass(frozen=True)
class Request(ClipChoices):
    """A request for a clip; `ClipChoices` has the other fields.

    Attributes:
        image: picture file, PIL image or (H, W, 3) uint8, see `load_image`.
        audio: sound file, or a pair of samples and rate, see `load_sound`.
    """

    image: ImageSource
    audio: AudioSource

    @property
    def files(self) -> dict[str, str]:
        """Names of the files to read, by field; fields that hold no file name are left out."""
        sources = {"image": self.image, "audio": self.audio}
        names = {k: os.fspath(v) for k, v in sources.items() if isinstance(v, str | os.PathLike)}
        return names | files_told(vars(self))


@dataclass(frozen=True)
class Inputs:
    """A request's picture and sound.

    Attributes:
        picture: (H, W, 3) uint8 of the bundle's size.
        sound: as long as the frames.
        mono: (n,) float32, the same sound at the networks' sample rate.
        num_frames: of the clip.
        end: (H, W, 3) uint8 picture of the last frame, None to let the clip end as it does.
    """

    picture: np.ndarray
    sound: Sound
    mono: np.ndarray
    num_frames: int
    end: np.ndarray | None = None


@dataclass(frozen=True)
class Prepared:
    """A request that is checked and loaded; its files are no longer needed.

    Attributes:
        sampling: sampling settings of both U-Nets, as reported.
        guided: sampling settings as run; without a prompt the text branch is dropped.
        branches: most guidance branches in a step, by U-Net.
        cfg_batch: most branches per network call, None for as many as memory allows.
        motion: (num_frames,) float32 motion given by the caller, None to predict it from the sound.
        packaged_localizer: whether the packaged model's localizer predicts it, not the bundle's.
        beats: (k,) seconds to which the events of the sound are moved, ascending; None for none.
        keyframes: (K,) int64 of each segment, None to choose them from the motion.
        reading: how picture and sound were read.
        asked: the request as JSON values, by field name.
        remarks: warnings about picture and sound.
    """

    inputs: Inputs
    prompt: str
    seed: int
    sampling: Sampling
    guided: Sampling
    branches: Mapping[str, int]
    cfg_batch: int | None
    motion: np.ndarray | None
    packaged_localizer: bool
    beats: np.ndarray | None
    keyframes: np.ndarray | None
    reading: Reading
    asked: dict[str, Any]
    remarks: tuple[str, ...]


def request_from(image: ImageSource, audio: AudioSource, values: Mapping[str, Any]) -> Request:
    """A request from values by option name; None or a missing value is the default.

    Args:
        values: of choices and sampling settings.
    """
    given = {name: value for name, value in values.items() if value is not None}
    chosen = {name: given.pop(name) for name in names_of_choices() if name in given}
    return Request(image, audio, settings=settings_from(given), **chosen)


def prepare(request: Request, bundle: Bundle) -> Prepared:
    """Check and load `request` for the networks of `bundle`.

    Raises:
        MediaError, SettingsError: the request is not valid.
    """
    size, settings = bundle.dimensions, request.settings
    sampling = resolve(settings, bundle.sampling, bundle.qualities)
    check_cfg_batch(bundle, settings.cfg_batch)
    prompt = _checked_prompt(request.prompt)
    guided = sampling if prompt else sampling.without_prompt()
    seed = check_seed(request.seed)
    with collected() as remarks:
        inputs = load_inputs(request, size)
    keyframes = read_keyframes(keyframes_text(request.keyframes), inputs.num_frames, size)
    if keyframes is not None and request.beats is not None:
        raise SettingsError("keyframes and beats are both given; want one of them")
    beats = read_beats(request.beats, inputs.num_frames, size.fps)
    motion = read_motion(request.motion, beats, inputs.num_frames, size.fps)
    is_packaged = is_word(request.motion, PACKAGED) and motion is None
    if motion is None and not is_packaged and LOCALIZER not in bundle.stages:
        if keyframes is None:
            raise SettingsError(
                f"bundle {bundle.name} has no localizer; want motion (packaged, values or a file), "
                "beats or keyframes"
            )
        motion = np.zeros(inputs.num_frames, np.float32)
    return Prepared(
        inputs=inputs,
        prompt=prompt,
        seed=seed,
        sampling=sampling,
        guided=guided,
        branches=count_branches(guided),
        cfg_batch=settings.cfg_batch,
        motion=motion,
        packaged_localizer=is_packaged,
        beats=beats,
        keyframes=keyframes,
        reading=_reading(request),
        asked=_asked(request),
        remarks=tuple(remarks),
    )


def load_inputs(request: Request, size: Dimensions) -> Inputs:
    """Picture and sound of `request`, for a bundle of these dimensions.

    Raises:
        MediaError, SettingsError: they are not valid.
    """
    start = parse_time(request.start)
    framed = partial(
        load_image,
        height=size.height,
        width=size.width,
        fit=request.fit,
        position=request.position,
    )
    picture = framed(request.image)
    if request.length == FULL:
        found = read_sound(request.audio, MAX_SECONDS, start, request.track)
        num_frames = max(math.floor(len(found.samples) / found.rate * size.fps + 1e-6), 1)
        seconds = num_frames / size.fps
        sound = Sound(found.samples[: math.ceil(seconds * found.rate)], found.rate)
    else:
        num_frames = _num_frames(request.length, size)
        seconds = num_frames / size.fps
        sound = load_sound(request.audio, seconds, start, request.track)
    end = None
    if request.end is not None:
        end = picture if is_word(request.end, FIRST) else framed(request.end)
        if num_frames < 2:
            raise SettingsError("end: a clip of one frame has no other last one; want it longer")
    return Inputs(picture, sound, to_mono(sound, size.sample_rate, seconds), num_frames, end)


def _reading(request: Request) -> Reading:
    """How picture and sound of a request that was checked are read."""
    position = parse_position(request.position)
    return Reading(request.fit, position, parse_time(request.start), request.track)


def _checked_prompt(prompt: object) -> str:
    """The prompt, "" for None.

    Raises:
        SettingsError: it is not a str, or not valid Unicode.
    """
    if prompt is None:
        return ""
    if not isinstance(prompt, str):
        raise SettingsError(f"prompt is a {type(prompt).__name__}; want text")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise SettingsError(
            f"prompt {ascii(prompt)[:60]} holds bytes that are no text; write it in UTF-8"
        ) from None
    return prompt


def _num_frames(length: float | str | None, size: Dimensions) -> int:
    if length is None:
        return size.frames
    least = round(1 / size.fps, 2)  # as people write the time of one frame
    return round(parse_time(length, "length", least, MAX_SECONDS) * size.fps)


def _asked(request: Request) -> dict[str, Any]:
    """The file names and all options except the sampling."""
    values = {name: getattr(request, name) for name in names_of_choices()}
    if not isinstance(request.end, str | None):  # pixels are told of no more than those of `image`
        del values["end"]
    return {name: _as_json(value) for name, value in values.items()} | request.files


def _as_json(value: Any) -> Any:
    """The JSON value of an option."""
    if isinstance(value, str | int | float | None):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else np.asarray(value).tolist()
