"""Frames and sound, encoded: equal frames give equal bytes, and players show their colours."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from keyvid.containers import CONTAINERS, Container
from keyvid.errors import MediaError
from keyvid.runtime.media.sound import Sound

# The frames are sRGB; what encodes them is the matrix of BT.601, which also those readers take that
# do not look at the tags. Numbers as in ITU-T H.273.
_PRIMARIES = 1  # BT.709, which are those of sRGB
_TRANSFER = 13  # sRGB
_MATRIX = 6  # BT.601
_LIMITED_RANGE = 1
_LUMA = np.array((0.299, 0.587, 0.114))
_FRACTION_BITS = 16

_BITS_PER_CHANNEL = 96_000  # per second; the most that AAC can use for a channel at 16 kHz


@dataclass(frozen=True)
class Footage:
    """What is to be seen and heard in a file.

    Attributes:
        frames: (H, W, 3) uint8 each; H and W even.
        enlarged: by how much and how the frames were.
    """

    frames: Iterable[npt.NDArray[np.uint8]]
    fps: int
    sound: Sound
    enlarged: tuple[int, str] = (1, "lanczos")


def encode(path: Path, kind: str, footage: Footage, tags: Mapping[str, str] | None = None) -> None:
    """Write the file `path` as a container of `kind`, a key of CONTAINERS.

    Args:
        tags: metadata of the file, by FFmpeg's names.
    Raises:
        MediaError: there is no frame.
        OSError: the file cannot be written.
    """
    chosen, fps = CONTAINERS[kind], footage.fps
    options = dict(chosen.muxer_options)
    with av.open(str(path), "w", format=chosen.muxer, options=options) as container:
        container.metadata.update(tags or {})
        video: Any = container.add_stream(chosen.codec, rate=fps, options=dict(chosen.options))
        track = _SoundTrack(container, chosen, footage.sound) if chosen.sound_codec else None
        number = -1
        for number, frame in enumerate(footage.frames):
            if not number:
                _describe(video, chosen, frame)
            picture = _picture(frame, chosen)
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(video.encode(picture))
            if track:
                track.write_until((number + 1) / fps)
        if number < 0:
            raise MediaError("the clip has no frames, so there is nothing to write")
        container.mux(video.encode(None))
        if track:
            track.finish()


def written_rate(chosen: Container, rate: int) -> int:
    """Samples per second that a file has of a sound of `rate`."""
    return rate if rate in chosen.sound_rates else chosen.sound_rates[-1]


def _describe(video: Any, chosen: Container, frame: npt.NDArray[np.uint8]) -> None:
    """Set what the stream must know before its first frame."""
    video.height, video.width = frame.shape[:2]
    video.pix_fmt = chosen.pixels
    context = video.codec_context
    context.thread_count = 1
    if chosen.pixels == "yuv420p":
        context.color_primaries = _PRIMARIES
        context.color_trc = _TRANSFER
        context.colorspace = _MATRIX
        context.color_range = _LIMITED_RANGE


def _picture(frame: npt.NDArray[np.uint8], chosen: Container) -> Any:
    if chosen.pixels == "yuv420p":
        return av.VideoFrame.from_ndarray(to_yuv420(frame), format="yuv420p")
    image = Image.fromarray(frame).quantize(256)
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette = np.full((256, 4), 255, np.uint8)  # opacity, red, green, blue
    palette[: len(colours), 1:] = colours
    indices: Any = (np.asarray(image), palette)
    return av.VideoFrame.from_ndarray(indices, format="pal8")


def to_yuv420(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB as planes of BT.601 in limited range: (H * 3 / 2, W) uint8.

    Whole numbers only, so that every machine gives the same. A chroma sample stands beside the
    left one of its two pixels and between its two rows, as H.264 has it.
    """
    height, width = frame.shape[:2]
    pixels = frame.astype(np.int32)
    luma = _weigh(pixels, 219 * _LUMA, 16)
    rows = pixels[0::2] + pixels[1::2]
    before = np.concatenate([rows[:, :1], rows[:, 1:-1:2]], axis=1)
    corner = before + 2 * rows[:, 0::2] + rows[:, 1::2]  # (H / 2, W / 2, 3), 8 times the mean
    blue = (np.array((0.0, 0.0, 1.0)) - _LUMA) / (1 - _LUMA[2])
    red = (np.array((1.0, 0.0, 0.0)) - _LUMA) / (1 - _LUMA[0])
    chroma = [_weigh(corner, 112 * weights / 8, 128) for weights in (blue, red)]
    planes = np.concatenate([plane.ravel() for plane in (luma, *chroma)])
    return planes.reshape(height * 3 // 2, width)


def _weigh(
    pixels: npt.NDArray[np.int32], weights: npt.NDArray[np.float64], offset: int
) -> npt.NDArray[np.uint8]:
    """`pixels @ weights / 255 + offset`, rounded."""
    one = 1 << _FRACTION_BITS
    fixed = np.round(weights / 255 * one).astype(np.int32)
    sums = pixels[..., 0] * fixed[0] + pixels[..., 1] * fixed[1] + pixels[..., 2] * fixed[2]
    rounded: npt.NDArray[np.int32] = (sums + offset * one + one // 2) >> _FRACTION_BITS
    return rounded.astype(np.uint8)


@dataclass
class _SoundTrack:
    """Encodes a sound piece by piece beside the frames, so that the file is interleaved."""

    container: Any
    chosen: Container
    sound: Sound
    _done: int = field(default=0, init=False)  # samples

    def __post_init__(self) -> None:
        samples, rate = self.sound
        if samples.shape[1] > 2:
            samples = samples.mean(axis=1, dtype=np.float32, keepdims=True)
        self._samples = samples
        self._layout = "mono" if samples.shape[1] == 1 else "stereo"
        wanted = written_rate(self.chosen, rate)
        self._stream = self.container.add_stream(
            self.chosen.sound_codec, rate=wanted, layout=self._layout
        )
        self._stream.bit_rate = _BITS_PER_CHANNEL * samples.shape[1]
        form = self._stream.codec_context.format
        self._resampler = av.AudioResampler(format=form, layout=self._layout, rate=wanted)

    def write_until(self, seconds: float) -> None:
        """Encode what is heard before a time."""
        rate = self.sound.rate
        piece = self._samples[self._done : round(seconds * rate)]
        if len(piece):
            planes = np.ascontiguousarray(np.clip(piece.T, -1.0, 1.0), dtype=np.float32)
            wave = av.AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
            wave.sample_rate = rate
            wave.pts, wave.time_base = self._done, Fraction(1, rate)
            self._mux(self._resampler.resample(wave))
            self._done += len(piece)

    def finish(self) -> None:
        """Encode what is still held back."""
        self._mux([*self._resampler.resample(None), None])

    def _mux(self, frames: Iterable[Any]) -> None:
        for frame in frames:
            self.container.mux(self._stream.encode(frame))
