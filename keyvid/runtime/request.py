"""What a caller asks for, and the same checked and loaded: the inputs of a clip."""

import math
from dataclasses import dataclass

import numpy as np

from keyvid.bundle.specs import Dimensions
from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.noise import check_seed
from keyvid.runtime.media.arguments import parse_time
from keyvid.runtime.media.picture import Fit, ImageSource, load_image
from keyvid.runtime.media.sound import AudioSource, Sound, load_sound, read_sound, to_mono
from keyvid.sampling import Settings

FULL = "full"
MAX_SECONDS = 3600.0  # of a clip


@dataclass(frozen=True)
class Request:
    """What a clip is made of.

    Attributes:
        image: picture file, PIL image or (H, W, 3) uint8, see `load_image`.
        audio: sound file, or samples and their rate, see `load_sound`.
        prompt: what is seen and heard, "" for nothing.
        seed: of all noise; the same seed gives the same clip on each engine up to rounding.
        settings: sampling settings that differ from the bundle's defaults.
        keyframes: "auto" (from the sound), "uniform", or frame numbers such as "0,4,8".
        start: second of the sound to begin at, or a time such as "1:02.5".
        length: seconds, "full" for all that the sound has, None for what the networks know.
        fit, position: how a picture of other proportions is cropped or padded.
    """

    image: ImageSource
    audio: AudioSource
    prompt: str = ""
    seed: int = 0
    settings: Settings = Settings()
    keyframes: str = "auto"
    start: float | str = 0.0
    length: float | str | None = None
    fit: Fit = "crop"
    position: str | tuple[float, float] = "centre"


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


def load_inputs(request: Request, size: Dimensions) -> Inputs:
    """Picture and sound of `request`, for a bundle of these dimensions.

    Raises:
        MediaError, SettingsError: what is wrong with the request.
    """
    check_seed(request.seed)
    start = parse_time(request.start)
    picture = load_image(
        request.image, size.height, size.width, fit=request.fit, position=request.position
    )
    if request.length == FULL:
        found = read_sound(request.audio, MAX_SECONDS, start)
        num_frames = max(math.floor(len(found.samples) / found.rate * size.fps + 1e-6), 1)
        seconds = num_frames / size.fps
        sound = Sound(found.samples[: math.ceil(seconds * found.rate)], found.rate)
    else:
        num_frames = _num_frames(request.length, size)
        seconds = num_frames / size.fps
        sound = load_sound(request.audio, seconds, start)
    return Inputs(picture, sound, to_mono(sound, size.sample_rate, seconds), num_frames)


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
