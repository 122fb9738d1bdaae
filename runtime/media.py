"""Pictures in, a film out."""

import io
import os
import warnings
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from keyvid.errors import MediaError
from keyvid.runtime.outputs import check_output, write_atomic
from keyvid.runtime.sound import Sound
from keyvid.runtime.sources import check_file, decoder_message

ImageSource = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]

_BACKGROUND = "white"  # of pictures with transparency: cut-outs and logos are mostly drawn for it
_X264 = {"crf": "10", "preset": "medium"}  # crf as in the released code
_AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_AAC_BITS_PER_CHANNEL = 96_000  # per second; the most that a channel at 16 kHz can use


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
    check_file(path)
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
            f"{path}: not a picture that can be read ({decoder_message(path, error)}); "
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


def write_video(
    path: str | os.PathLike[str],
    frames: npt.NDArray[np.uint8],
    fps: int,
    sound: Sound,
) -> None:
    """Write an MP4: H.264 and AAC, under its name only when it is whole.

    Args:
        frames: (F, H, W, 3) uint8, H and W even.
        sound: -1 to 1, what is beyond is clipped; more than two channels become one, and a rate
            that AAC does not know 48 kHz.
    Raises:
        MediaError: the file cannot be written there.
    """
    check_output(Path(path), ".mp4")
    film = io.BytesIO()  # a few MB
    with av.open(film, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps, options=_X264)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        samples, rate = np.clip(sound.samples, -1.0, 1.0), sound.rate
        if samples.shape[1] > 2:
            samples = samples.mean(axis=1, dtype=np.float32, keepdims=True)
        layout = "mono" if samples.shape[1] == 1 else "stereo"
        aac_rate = rate if rate in _AAC_RATES else _AAC_RATES[-1]
        audio = container.add_stream("aac", rate=aac_rate, layout=layout)
        audio.bit_rate = _AAC_BITS_PER_CHANNEL * samples.shape[1]
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        planes = np.ascontiguousarray(samples.T, dtype=np.float32)  # (channels, n)
        wave = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
        wave.sample_rate = rate
        wave.pts, wave.time_base = 0, Fraction(1, rate)  # else the codec's delay is heard
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=aac_rate)
        for part in (*resampler.resample(wave), *resampler.resample(None)):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    write_atomic(Path(path), film.getvalue())
