"""What a caller asks for, and the same checked, loaded and resolved: what a clip is made of."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import Dimensions
from keyvid.errors import SettingsError
from keyvid.remarks import collected
from keyvid.runtime.diffusion.guidance import count_branches
from keyvid.runtime.diffusion.noise import check_seed
from keyvid.runtime.diffusion.segments import read_keyframes
from keyvid.runtime.media.arguments import parse_time
from keyvid.runtime.media.picture import ImageSource, load_image
from keyvid.runtime.media.sound import AudioSource, Sound, load_sound, read_sound, to_mono
from keyvid.runtime.motion import PACKAGED, files_told, is_word, keyframes_text, read_motion
from keyvid.runtime.networks.budget import check_cfg_batch
from keyvid.sampling import Sampling, resolve, settings_from
from keyvid.vocabulary import ClipChoices, names_of_choices

FULL = "full"
LOCALIZER = "localizer"
MAX_SECONDS = 3600.0  # of a clip


@dataclass(frozen=True)
class Request(ClipChoices):
    """What a caller asks for; see `ClipChoices` for the rest of it.

    Attributes:
        image: picture file, PIL image or (H, W, 3) uint8, see `load_image`.
        audio: sound file, or samples and their rate, see `load_sound`.
    """

    image: ImageSource
    audio: AudioSource

    @property
    def files(self) -> dict[str, str]:
        """Names of the files that are read, by field; what is no file has none."""
        sources = {"image": self.image, "audio": self.audio}
        names = {k: os.fspath(v) for k, v in sources.items() if isinstance(v, str | os.PathLike)}
        return names | files_told(vars(self))


@dataclass(frozen=True)
class Inputs:
    """A request's picture and sound.

    Attributes:
        picture: (H, W, 3) uint8 of the bundle's size.
        sound: as long as the frames.
        mono: (n,) float32, the same as the networks hear it.
        num_frames: of the clip.
    """

    picture: np.ndarray
    sound: Sound
    mono: np.ndarray
    num_frames: int


@dataclass(frozen=True)
class Prepared:
    """A request that a clip can be made of: nothing is left to check, no file is needed any more.

    Attributes:
        sampling: how both U-Nets sample, as it is reported.
        guided: how they are run: without a prompt the branch with text is the one without.
        branches: most guidance branches that a step of each U-Net runs.
        cfg_batch: most of them per network call, None for what the memory allows.
        motion: (num_frames,) float32 of each frame as it is told, None to have it heard.
        packaged_localizer: whether the packaged model's localizer hears it, not the bundle's.
        keyframes: (K,) int64 of each segment, None to choose them by the motion.
        asked: what was asked for, by the names of the request's fields, as JSON values.
        remarks: what there is to say about picture and sound.
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
    keyframes: np.ndarray | None
    asked: dict[str, Any]
    remarks: tuple[str, ...]


def request_from(image: ImageSource, audio: AudioSource, values: Mapping[str, Any]) -> Request:
    """The request of values by the names of `keyvid.vocabulary`; None or a missing one leaves it.

    Args:
        values: of choices and sampling settings.
    """
    given = {name: value for name, value in values.items() if value is not None}
    chosen = {name: given.pop(name) for name in names_of_choices() if name in given}
    return Request(image, audio, settings=settings_from(given), **chosen)


def prepare(request: Request, bundle: Bundle) -> Prepared:
    """Check and load all that `request` says, for the networks of `bundle`.

    Raises:
        MediaError, SettingsError: what is wrong with the request.
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
    motion = read_motion(request.motion, request.beats, inputs.num_frames, size.fps)
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
        keyframes=keyframes,
        asked=_asked(request),
        remarks=tuple(remarks),
    )


def load_inputs(request: Request, size: Dimensions) -> Inputs:
    """Picture and sound of `request`, for a bundle of these dimensions.

    Raises:
        MediaError, SettingsError: what is wrong with them.
    """
    start = parse_time(request.start)
    picture = load_image(
        request.image, size.height, size.width, fit=request.fit, position=request.position
    )
    if request.length == FULL:
        found = read_sound(request.audio, MAX_SECONDS, start, request.track)
        num_frames = max(math.floor(len(found.samples) / found.rate * size.fps + 1e-6), 1)
        seconds = num_frames / size.fps
        sound = Sound(found.samples[: math.ceil(seconds * found.rate)], found.rate)
    else:
        num_frames = _num_frames(request.length, size)
        seconds = num_frames / size.fps
        sound = load_sound(request.audio, seconds, start, request.track)
    return Inputs(picture, sound, to_mono(sound, size.sample_rate, seconds), num_frames)


def _checked_prompt(prompt: object) -> str:
    """The prompt, "" for None.

    Raises:
        SettingsError: it is no text, or one of bytes that are none.
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
    seconds = parse_time(length, "length")
    num_frames = round(seconds * size.fps)
    if not num_frames or seconds > MAX_SECONDS:
        raise SettingsError(
            f"length is {length}; want full, or seconds from {1 / size.fps:.2f} to "
            f"{MAX_SECONDS:.0f}"
        )
    return num_frames


def _asked(request: Request) -> dict[str, Any]:
    """The names of the files and every choice but the sampling."""
    values = {name: _as_json(getattr(request, name)) for name in names_of_choices()}
    return values | request.files


def _as_json(value: Any) -> Any:
    """A choice of the Python interface as JSON has it."""
    if isinstance(value, str | int | float | None):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else np.asarray(value).tolist()
