"""Pictures of all kinds in, a film out."""

import io
import math
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from keyvid.errors import MediaError
from keyvid.runtime.picture import load_image
from keyvid.runtime.sound import Sound, load_sound, to_mono
from keyvid.runtime.video import write_video

RATE = 16_000


def quadrants(height: int = 80, width: int = 120) -> np.ndarray:
    """(H, W, 3) uint8: red, green, blue and white from the upper left, row by row."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    image[: height // 2, width // 2 :] = (0, 255, 0)
    image[height // 2 :, : width // 2] = (0, 0, 255)
    image[height // 2 :, width // 2 :] = (255, 255, 255)
    return image


def corners(image: np.ndarray) -> list[str]:
    """Colour names near the four corners, row by row."""
    names = {(255, 0, 0): "r", (0, 255, 0): "g", (0, 0, 255): "b", (255, 255, 255): "w"}
    height, width = image.shape[:2]
    rows, columns = (height // 6, height - height // 6), (width // 6, width - width // 6)
    found = []
    for y in rows:
        for x in columns:
            distance = {n: np.abs(image[y, x].astype(int) - c).max() for c, n in names.items()}
            name = min(distance, key=lambda n: distance[n])
            assert distance[name] < 40, "JPEG and palettes move colours by less than this"
            found.append(name)
    return found


@pytest.mark.parametrize("kind", ["path", "pillow", "array"])
def test_image_sources(tmp_path: Path, kind: str) -> None:
    array = quadrants()
    Image.fromarray(array).save(tmp_path / "a.png")
    source = {"path": tmp_path / "a.png", "pillow": Image.fromarray(array), "array": array}[kind]
    image = load_image(source, 40, 60)
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert corners(image) == ["r", "g", "b", "w"]


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", ".jpg"),
        ("CMYK", ".jpg"),
        ("P", ".png"),
        ("P", ".gif"),
        ("RGB", ".webp"),
        ("RGB", ".bmp"),
        ("RGB", ".tiff"),
        ("RGBA", ".png"),
    ],
)
def test_image_formats_and_modes(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(quadrants()).convert(mode).save(path)
    assert corners(load_image(path, 40, 60)) == ["r", "g", "b", "w"]


@pytest.mark.parametrize(
    ("dtype", "scale", "suffix"),
    [("uint8", 1, ".png"), ("uint16", 257, ".png"), ("float32", 1 / 255, ".tiff")],
)
def test_grey_images_of_any_depth(tmp_path: Path, dtype: str, scale: float, suffix: str) -> None:
    ramp = np.tile(np.arange(0, 240, 2), (80, 1))
    Image.fromarray((ramp * scale).astype(dtype)).save(tmp_path / f"a{suffix}")
    image = load_image(tmp_path / f"a{suffix}", 80, 120)
    assert np.abs(image - ramp[..., None].astype(int)).max() <= 1  # rounding


# EXIF orientation n says how the camera was held; each turns the stored picture upright.
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, "rgbw"), (2, "grwb"), (3, "wbgr"), (4, "bwrg"), (5, "rbgw"), (6, "brwg"), (8, "gwrb")],
)
def test_image_is_turned_as_exif_says(tmp_path: Path, orientation: int, upright: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(quadrants()).save(tmp_path / "a.jpg", quality=95, exif=exif)
    assert "".join(corners(load_image(tmp_path / "a.jpg", 60, 60))) == upright


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    image = np.zeros((40, 60, 4), np.uint8)  # black, see-through
    image[:, 30:] = (200, 0, 0, 255)
    Image.fromarray(image).save(tmp_path / "a.png")
    got = load_image(tmp_path / "a.png", 40, 60)
    assert (got[:, :25] == 255).all()
    assert np.abs(got[:, 35:] - np.array((200, 0, 0))).max() <= 2  # ringing of the filter


@pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100)])
def test_crop_keeps_centre_and_proportions(height: int, width: int) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[:height, :width]
    image[(y - height / 2 + 0.5) ** 2 + (x - width / 2 + 0.5) ** 2 < 30**2] = 255
    disc = load_image(image, 64, 96)[..., 0] > 127
    rows, columns = np.flatnonzero(disc.any(1)), np.flatnonzero(disc.any(0))
    assert abs(len(rows) - len(columns)) <= 1, "a circle stays one"
    assert abs(rows.mean() - 31.5) <= 0.5
    assert abs(columns.mean() - 47.5) <= 0.5


def test_shrinking_is_band_limited() -> None:
    """A pattern finer than the result is its mean, not some alias of it."""
    checks = np.indices((640, 960)).sum(0) % 2 * 255
    image = load_image(np.repeat(checks[..., None], 3, 2).astype(np.uint8), 64, 96)
    assert np.abs(image.astype(int) - 127).max() <= 2


def test_large_jpeg_loses_nothing(tmp_path: Path) -> None:
    """It is decoded at a fraction of its size; the result must not be softer for it."""
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    large = Image.fromarray(noise).resize((1920, 1280), Image.Resampling.NEAREST)
    large.save(tmp_path / "a.jpg", quality=95, subsampling=0)
    got = load_image(tmp_path / "a.jpg", 256, 384).astype(float)
    want = load_image(large, 256, 384).astype(float)
    assert np.abs(got - want).mean() < 3  # decoded at an eighth: 22


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1000), (20_000, 1), (1, 20_000)])
def test_extreme_sizes_work(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (10, 120, 230)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 64, 96)
    assert image.shape == (64, 96, 3)
    assert (image == (10, 120, 230)).all()


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # 50 kB, 1.2 GB as RGB
    with pytest.raises(MediaError, match=r"bomb\.png: has more than 178,956,970 pixels; shrink"):
        load_image(tmp_path / "bomb.png", 64, 96)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".tiff", ".bmp"])
def test_damaged_images_raise_only_media_errors(tmp_path: Path, suffix: str) -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = Image.fromarray(quadrants())
    whole.save(buffer, Image.registered_extensions()[suffix], exif=exif)
    rng = np.random.default_rng(0)
    refused = 0
    for case in range(60):
        data = bytearray(buffer.getvalue())
        if case % 2:
            data = data[: rng.integers(1, len(data))]
        else:
            for position in rng.integers(0, min(len(data), 300), 8):
                data[position] = rng.integers(256)
        (tmp_path / f"a{suffix}").write_bytes(data)
        try:
            load_image(tmp_path / f"a{suffix}", 64, 96)
        except MediaError as error:
            assert "\n" not in str(error)  # noqa: PT017 (some damaged files can be read)
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_wrong_image_arrays(array: np.ndarray) -> None:
    with pytest.raises(MediaError, match=r"expected uint8 \(H, W, 3\)"):
        load_image(array, 64, 96)


def tone(rate: int, seconds: float = 2.0, hertz: float = 1000.0) -> np.ndarray:
    """(n,) float32 sine at half scale."""
    time = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def steps(rate: int, seconds: float) -> np.ndarray:
    """(n,) float32 tone, louder each quarter of a second: 0.1, 0.2, ... 0.8, 0.1, ..."""
    wave = tone(rate, seconds, 600.0) * 2
    return wave * (1 + np.arange(len(wave)) * 4 // rate % 8).astype(np.float32) * 0.1


def loudness(wave: np.ndarray) -> list[float]:
    """Amplitude in the middle of each quarter of a second, rounded to 0.1 (LAME takes 5 % off)."""
    quarters = wave.reshape(-1, RATE // 4)[:, RATE // 16 : -RATE // 16]
    return [round(float(q.std() * math.sqrt(2)), 1) for q in quarters]


def mono_sound(samples: np.ndarray) -> Sound:
    """(n,) samples as a sound of one channel."""
    return Sound(samples[:, None].astype(np.float32), RATE)


def moving_frames(height: int = 64, width: int = 96) -> np.ndarray:
    """(48, H, W, 3) uint8 soft pattern that shifts from frame to frame."""
    y, x = np.mgrid[:height, :width].astype(float)
    frames = []
    for index in range(48):
        waves = [np.sin(x / 11 + index / 5 + shift) + np.cos(y / 13 - shift) for shift in (0, 1, 2)]
        frames.append(127.5 + 60 * np.stack(waves, -1))
    return np.stack(frames).astype(np.uint8)


def test_video_reads_back(tmp_path: Path) -> None:
    frames, audio = moving_frames(), steps(RATE, 2.0)
    write_video(tmp_path / "a.mp4", frames, 24, mono_sound(audio))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    with av.open(tmp_path / "a.mp4") as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.pix_fmt) == ("h264", "yuv420p")
        assert (video.average_rate, video.frames) == (24, 48)
        assert video.duration * video.time_base == 2
        assert (sound.codec_context.name, sound.rate) == ("aac", RATE)
        assert sound.duration * sound.time_base == 2
        decoded = list(container.decode(video))
    assert [frame.time for frame in decoded] == pytest.approx(np.arange(48) / 24)
    got = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded]).astype(float)
    # 40 dB: crf 10, and colours at half the resolution. A frame too early or too late: 29 dB.
    assert 10 * np.log10(255**2 / np.mean((got - frames) ** 2)) > 38
    assert 10 * np.log10(255**2 / np.mean((got[1:] - frames[:-1]) ** 2)) < 30
    heard = to_mono(load_sound(tmp_path / "a.mp4", 2.0), RATE, 2.0)
    assert loudness(heard) == loudness(audio)


def test_sound_of_the_video_is_in_time(tmp_path: Path) -> None:
    """The encoder's delay (1024 samples, 1.5 frames) must not be heard."""
    audio = np.zeros(32_000, np.float32)
    audio[20_000:20_040] = 0.8
    write_video(tmp_path / "a.mp4", moving_frames(), 24, mono_sound(audio))
    heard = to_mono(load_sound(tmp_path / "a.mp4", 2.0), RATE, 2.0)
    assert abs(int(np.argmax(np.abs(heard))) - 20_020) < 40


def test_only_mp4_is_written(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.avi: .*give a name that ends in \.mp4"):
        write_video(tmp_path / "a.avi", moving_frames(), 24, mono_sound(steps(RATE, 2.0)))
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_old_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", moving_frames(), 24, mono_sound(steps(RATE, 2.0)))
    old = (tmp_path / "a.mp4").read_bytes()

    def no_space(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be written: No space left on device"):
        write_video(tmp_path / "a.mp4", moving_frames()[:24], 24, mono_sound(steps(RATE, 1.0)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == old


def test_a_stereo_sound_stays_as_it_is(tmp_path: Path) -> None:
    samples = np.stack([tone(44_100, hertz=400), tone(44_100, hertz=800)], axis=1)
    write_video(tmp_path / "a.mp4", moving_frames(), 24, Sound(samples, 44_100))
    heard = load_sound(tmp_path / "a.mp4", 2.0)
    assert (heard.samples.shape, heard.rate) == ((88_200, 2), 44_100)
    strength = np.abs(np.fft.rfft(heard.samples[:44_100], axis=0))  # one bin is 1 Hz
    assert strength.argmax(axis=0) == pytest.approx([400, 800], abs=1)


def test_what_aac_cannot_hold_is_converted(tmp_path: Path) -> None:
    samples = np.stack([tone(96_000)] * 3, axis=1)
    write_video(tmp_path / "a.mp4", moving_frames(), 24, Sound(samples, 96_000))
    heard = load_sound(tmp_path / "a.mp4", 2.0)
    assert (heard.samples.shape, heard.rate) == ((96_000, 1), 48_000)
