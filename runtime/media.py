"""Pictures and sounds in, a film out."""

import io
import logging
import math
import os
import re
import stat
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image, ImageOps

from keyvid.engines.errors import MediaError, SettingsError
from keyvid.runtime.outputs import check_output, write_atomic

ImageSource = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]
AudioSource = str | os.PathLike[str] | tuple[npt.NDArray[np.float32], int]

_BACKGROUND = "white"  # of pictures with transparency: cut-outs and logos are mostly drawn for it
_PREROLL_SECONDS = 0.2  # decoded before the wanted start: a lossy codec needs it to settle
_STREAMED_BYTES = 0x7F000000  # sizes from here on stand in headers written to a pipe
_NO_NESTED_FILES = {"protocol_whitelist": "none"}  # a playlist must not open files or addresses
_RATES = (1_000, 1_000_000)  # Hz; beyond it a header is wrong
_SILENCE = 1e-4  # of full scale: nothing that 16 bits could tell from noise
_X264 = {"crf": "10", "preset": "medium"}  # crf as in the released code
_AAC_BITS_PER_SECOND = 96_000  # the most that one channel at 16 kHz can use

log = logging.getLogger(__name__)


def load_image(source: ImageSource, height: int, width: int) -> npt.NDArray[np.uint8]:
    """A picture, turned as its EXIF says, scaled and cropped about its centre to (height, width).

    Args:
        source: a file that Pillow reads, an open image, or (H, W, 3) uint8.
    Returns:
        (height, width, 3) uint8, RGB; transparent parts white.
    Raises:
        MediaError: what is wrong with the picture.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise MediaError(
                f"image array is {source.dtype} {source.shape}, expected uint8 (H, W, 3)"
            )
        image: Image.Image = Image.fromarray(source)
    elif isinstance(source, Image.Image):
        image = source.copy()
    else:
        image = _open_image(Path(source), max(height, width))
    ImageOps.exif_transpose(image, in_place=True)
    image = ImageOps.fit(_in_colour(image), (width, height), Image.Resampling.LANCZOS)
    if image.mode == "RGBA":
        backdrop = Image.new("RGBA", image.size, _BACKGROUND)
        image = Image.alpha_composite(backdrop, image).convert("RGB")
    return np.array(image)


def _open_image(path: Path, side: int) -> Image.Image:
    """The decoded picture of a file, at least `side` pixels high and wide if the file has them."""
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                # A JPEG can be decoded at 1/2, 1/4 or 1/8: less memory, the same result.
                image.draft(None, (2 * side, 2 * side))
                image.load()
                return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(
            f"{path}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels; shrink it first"
        ) from error
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise MediaError(
            f"{path}: not a picture that can be read ({_short(path, error)}); "
            "give a whole PNG, JPEG or WebP file"
        ) from error


def _in_colour(image: Image.Image) -> Image.Image:
    """The same picture as 8-bit RGB, or RGBA where it has transparency."""
    if image.mode.startswith(("I", "F")):  # 16-bit integers; floats of 0 to 1
        scale = 255.0 if image.mode == "F" else 255.0 / 65535.0
        grey = np.nan_to_num(np.asarray(image, dtype=np.float32) * scale)
        image = Image.fromarray(np.clip(grey + 0.5, 0.0, 255.0).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


class _Excerpt(NamedTuple):
    """The wanted part of a sound, as the file has it."""

    samples: npt.NDArray[np.float32]  # (n, channels)
    rate: int
    duration: float | None  # seconds, of the whole sound, if the file says it


def load_audio(
    source: AudioSource, sample_rate: int, seconds: float, start: float = 0.0
) -> npt.NDArray[np.float32]:
    """A part of a sound, as mono at the wanted rate.

    Args:
        source: a file that soundfile or PyAV decodes (also a video), or samples (n,) or
            (n, channels) of -1 to 1 and their rate.
        sample_rate: wanted, Hz.
        seconds: wanted length; a sound that ends earlier is padded with silence.
        start: seconds from the sound's first sample.
    Returns:
        (round(seconds * sample_rate),) float32.
    Raises:
        MediaError: what is wrong with the sound.
        SettingsError: `start` is not a time.
    """
    if not (math.isfinite(start) and start >= 0):
        raise SettingsError(f"start is {start} s; expected 0 or more")
    if isinstance(source, tuple):
        name, excerpt = "audio samples", _cut_samples(*source, seconds, start)
    else:
        path = Path(source)
        _check_file(path)
        name = str(path)
        excerpt = _read_soundfile(path, seconds, start) or _read_av(path, seconds, start)
    _check_excerpt(name, excerpt, seconds, start)
    mono = _resample(excerpt.samples.mean(axis=1, dtype=np.float32), excerpt.rate, sample_rate)
    result = np.zeros(round(seconds * sample_rate), np.float32)
    mono = mono[: len(result)]
    result[: len(mono)] = mono
    return result


def _check_excerpt(name: str, excerpt: _Excerpt, seconds: float, start: float) -> None:
    samples, rate, duration = excerpt
    if not len(samples):
        if not start:
            raise MediaError(f"{name}: holds no sound (0 samples); give one that does")
        length = "" if duration is None else f", which lasts {duration:.2f} s"
        raise MediaError(
            f"{name}: start is {start:g} s, beyond the end of the sound{length}; start earlier"
        )
    if not _RATES[0] <= rate <= _RATES[1]:
        raise MediaError(
            f"{name}: {rate} samples per second, expected {_RATES[0]} to {_RATES[1]}; "
            "convert the sound"
        )
    bad = ~np.isfinite(samples).all(axis=1)
    if bad.any():
        at = start + float(np.argmax(bad)) / rate
        raise MediaError(
            f"{name}: {bad.sum()} samples are NaN or infinite, the first at {at:.3f} s; "
            "repair or convert the sound"
        )
    if np.abs(samples).max() < _SILENCE:
        log.warning("%s: silent, so nothing tells the picture when to move", name)
    found = len(samples) / rate
    if found < seconds - 0.001:
        log.warning("%s: %.2f s of sound, the rest of %g s is silence", name, found, seconds)
    elif duration is not None and duration > start + seconds + 0.001:
        log.warning(
            "%s: lasts %.2f s, used from %g s to %g s", name, duration, start, start + seconds
        )


def _cut_samples(
    samples: npt.NDArray[np.float32], rate: int, seconds: float, start: float
) -> _Excerpt:
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f" or rate <= 0:
        raise MediaError(
            f"audio samples are {samples.dtype} {samples.shape} at {rate} Hz, "
            "expected floats (n,) or (n, channels) at a positive rate"
        )
    first, count = round(start * rate), math.ceil(seconds * rate)
    wanted = samples.reshape(len(samples), -1)[first : first + count]
    return _Excerpt(wanted.astype(np.float32), rate, len(samples) / rate)


def _read_soundfile(path: Path, seconds: float, start: float) -> _Excerpt | None:
    """What libsndfile reads of a file, or None if the format is for PyAV."""
    try:
        with soundfile.SoundFile(path) as sound:
            if sound.format == "MP3":  # libsndfile stops at a guess of the length
                return None
            rate, duration = sound.samplerate, sound.frames / sound.samplerate
            first = min(round(start * rate), sound.frames)
            wanted = min(math.ceil(seconds * rate), sound.frames - first)
            sound.seek(first)
            samples = sound.read(wanted, dtype="float32", always_2d=True)
            cut_off = _misses_data(sound.extra_info) and len(samples) < math.ceil(seconds * rate)
    except (soundfile.SoundFileError, TypeError):  # TypeError: headerless, by the name
        return None
    if cut_off or len(samples) < wanted:
        raise _cut_off(path, (first + len(samples)) / rate)
    return _Excerpt(samples, rate, duration)


def _misses_data(header_text: str) -> bool:
    """Whether libsndfile found clearly less data than the header promises."""
    sizes = re.findall(r": (\d+) \(should be (\d+)\)", header_text)
    return any(
        int(said) < _STREAMED_BYTES and int(found) < 0.98 * int(said) for said, found in sizes
    )


def _read_av(path: Path, seconds: float, start: float) -> _Excerpt:
    """What FFmpeg reads of a file, a video's sound too.

    Raises:
        MediaError: no sound in it, or not readable.
    """
    try:
        with (
            open(path, "rb") as file,
            av.open(file, metadata_errors="replace", options=_NO_NESTED_FILES) as container,
        ):
            if not container.streams.audio:
                raise MediaError(f"{path}: has no sound; give a sound, or a video that has one")
            return _decode(path, container, container.streams.audio[0], seconds, start)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise MediaError(
            f"{path}: not a sound that can be read ({_short(path, error)}); "
            "give a whole WAV, FLAC, OGG, MP3 or video file"
        ) from error


def _decode(path: Path, container: Any, stream: Any, seconds: float, start: float) -> _Excerpt:
    begin = float((stream.start_time or 0) * stream.time_base)  # of the first sample
    if start > _PREROLL_SECONDS:
        container.seek(int((begin + start - _PREROLL_SECONDS) / stream.time_base), stream=stream)
    to_float = av.AudioResampler(format="fltp")
    chunks: list[npt.NDArray[np.float32]] = []  # (n, channels) each
    at, rate, missing = start, stream.rate, 1
    for frame in container.decode(stream):
        if not chunks:  # the seek went to some earlier frame
            at = 0.0 if frame.time is None else frame.time - begin
            rate = frame.sample_rate
            missing = round((start + seconds - at) * rate)
        chunks += [part.to_ndarray().T.astype(np.float32) for part in to_float.resample(frame)]
        missing -= frame.samples
        if missing <= 0:
            break
    samples = np.concatenate(chunks) if chunks else np.zeros((0, 1), np.float32)
    # Only a container with an index knows its length; elsewhere it is a guess from the bit rate.
    known = bool(stream.frames and stream.duration)
    duration = float(stream.duration * stream.time_base) if known else None
    if missing > 0 and chunks:
        end = at + len(samples) / rate
        if duration is not None and end < duration - 0.1:
            raise _cut_off(path, end)
        duration = end
    first = max(0, round((start - at) * rate))
    return _Excerpt(samples[first : first + math.ceil(seconds * rate)], rate, duration)


def _resample(
    mono: npt.NDArray[np.float32], rate: int, sample_rate: int
) -> npt.NDArray[np.float32]:
    """(n,) at `rate` Hz as (about n * sample_rate / rate,) at `sample_rate` Hz, band-limited."""
    if rate == sample_rate:
        return mono
    frame = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in frames])


def _check_file(path: Path) -> None:
    """Refuse what is not a file with something in it."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{path}: {error.strerror}; check the name") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path}: is not a file; give the name of one")
    if not status.st_size:
        raise MediaError(f"{path}: is empty (0 bytes); give a whole file")


def _cut_off(path: Path, end: float) -> MediaError:
    return MediaError(f"{path}: is cut off at {end:.2f} s; give the whole file")


def _short(path: Path, error: Exception) -> str:
    """What a decoder says, on one line and without the path that stands before it."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.replace(repr(str(path)), "").split())


def write_video(
    path: str | os.PathLike[str],
    frames: npt.NDArray[np.uint8],
    fps: int,
    audio: npt.NDArray[np.float32],
    sample_rate: int,
) -> None:
    """Write an MP4: H.264 and AAC, under its name only when it is whole.

    Args:
        frames: (F, H, W, 3) uint8, H and W even.
        audio: (n,) float32, -1 to 1; what is beyond is clipped.
    Raises:
        MediaError: the file cannot be written there.
    """
    check_output(Path(path), ".mp4")
    film = io.BytesIO()  # a few MB
    with av.open(film, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options=_X264)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=sample_rate, layout="mono")
        sound.bit_rate = _AAC_BITS_PER_SECOND
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        samples = np.clip(audio, -1.0, 1.0).astype(np.float32)[None]
        wave = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        wave.sample_rate = sample_rate
        wave.pts, wave.time_base = 0, Fraction(1, sample_rate)  # else the codec's delay is heard
        for part in av.AudioResampler(format="fltp").resample(wave):
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    write_atomic(Path(path), film.getvalue())
