"""Pictures and sounds of all kinds in, a film out."""

import contextlib
import io
import logging
import math
import socket
import struct
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from keyvid.engines.errors import MediaError, SettingsError
from keyvid.runtime.media import load_audio, load_image, write_video

RATE = 16_000


# --- pictures ---------------------------------------------------------------------------------


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
    with pytest.raises(MediaError, match=r"bomb\.png: has more than 89,478,485 pixels; shrink"):
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


# --- sounds -----------------------------------------------------------------------------------


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


def write_av(path: Path, wave: np.ndarray, rate: int, codec: str, *, picture: bool = False) -> None:
    """Encode a mono sound with FFmpeg, on request beside 2 s of black video."""
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=10) if picture else None
        sound = container.add_stream(codec, rate=rate, layout="mono")
        if video:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for _ in range(20):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(wave[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="mono", rate=rate)
        for part in resampler.resample(frame):
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_is_resampled(rate: int) -> None:
    got = load_audio((tone(rate), rate), RATE, 2.0)
    assert got.shape == (32_000,)
    assert got.dtype == np.float32
    # A windowed-sinc resampler is exact but at the ends, where it sees silence beyond the sound.
    assert np.abs(got - tone(RATE))[200:-200].max() < 1e-4


def test_resampling_is_band_limited() -> None:
    got = load_audio((tone(44_100, hertz=12_000), 44_100), RATE, 2.0)
    assert np.abs(got[200:-200]).max() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 6, 7])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    wave = np.zeros((32_000, channels), np.float32)
    wave[:, -1] = tone(RATE)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    got = load_audio(tmp_path / "a.wav", RATE, 2.0)
    np.testing.assert_allclose(got, tone(RATE) / channels, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("a.wav", {"subtype": "PCM_16"}),
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.aiff", {}),
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("unusual name 100%: #1", {"format": "WAV"}),
    ],
)
def test_soundfile_formats(tmp_path: Path, name: str, kwargs: dict[str, str]) -> None:
    soundfile.write(tmp_path / name, steps(RATE, 2.0), RATE, **kwargs)
    got = load_audio(tmp_path / name, RATE, 2.0)
    assert loudness(got) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize(
    ("name", "codec", "picture"),
    [
        ("a.m4a", "aac", False),
        ("a.mp4", "aac", True),
        ("a.mkv", "aac", True),
        ("a.webm", "libopus", False),
        ("a.avi", "mp3", True),
        ("a.mp3", "mp3", False),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.75])
def test_av_formats(tmp_path: Path, name: str, codec: str, picture: bool, start: float) -> None:
    write_av(tmp_path / name, steps(48_000, 4.0), 48_000, codec, picture=picture)
    got = load_audio(tmp_path / name, RATE, 2.0, start)
    first = round(4 * start)
    assert loudness(got) == [round(0.1 * (1 + (first + i) % 8), 1) for i in range(8)]


def test_start_inside_a_lossy_sound_is_exact(tmp_path: Path) -> None:
    write_av(tmp_path / "a.m4a", steps(RATE, 3.0), RATE, "aac")
    whole = load_audio(tmp_path / "a.m4a", RATE, 3.0)
    part = load_audio(tmp_path / "a.m4a", RATE, 1.0, start=1.3)
    np.testing.assert_allclose(part, whole[20_800:36_800], atol=1e-5)  # the same packets


def test_mp3_without_a_length_is_read_to_its_end(tmp_path: Path) -> None:
    """libsndfile guesses the length of a variable-rate MP3 from its first, here rich, frames."""
    noise = np.random.default_rng(0).normal(0, 0.3, RATE // 2).astype(np.float32)
    silence = np.zeros(RATE * 13 // 4, np.float32)
    wave = np.concatenate([noise, silence, steps(RATE, 2.0)])
    soundfile.write(tmp_path / "a.mp3", wave, RATE, bitrate_mode="VARIABLE")
    data = (tmp_path / "a.mp3").read_bytes()
    with av.open(tmp_path / "a.mp3") as container:
        first = next(container.demux(audio=0)).pos
    assert b"Xing" in data[:first]
    (tmp_path / "a.mp3").write_bytes(data[first:])
    got = load_audio(tmp_path / "a.mp3", RATE, 2.0, start=3.75)
    assert loudness(got) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp4"])
def test_only_the_wanted_part_is_decoded(tmp_path: Path, name: str) -> None:
    """What is behind the wanted part may even be missing."""
    path = tmp_path / name
    if name == "a.mp4":
        with av.open(path, "w", options={"movflags": "faststart"}) as container:
            sound = container.add_stream("aac", rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(steps(RATE, 60)[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            for part in av.AudioResampler(format="fltp").resample(frame):
                container.mux(sound.encode(part))
            container.mux(sound.encode(None))
    else:
        soundfile.write(path, steps(RATE, 60.0), RATE)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    got = load_audio(path, RATE, 2.0, start=10.0)
    assert loudness(got) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_longer_sound_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = load_audio((steps(RATE, 5.0), RATE), RATE, 2.0, start=1.0)
    assert loudness(got) == [0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.3, 0.4]
    assert "lasts 5.00 s, used from 1 s to 3 s" in caplog.text


def test_short_sound_is_padded_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = load_audio((tone(RATE, 0.1), RATE), RATE, 2.0)
    np.testing.assert_array_equal(got[:1600], tone(RATE, 0.1))
    assert not got[1600:].any()
    assert got.shape == (32_000,)
    assert "0.10 s of sound" in caplog.text


def test_silence_works_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = load_audio((np.zeros(32_000, np.float32), RATE), RATE, 2.0)
    assert not got.any()
    assert "silent" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_refused_where_it_is_used(tmp_path: Path, bad: float) -> None:
    wave = tone(RATE, 3.0)
    wave[8000] = bad
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(MediaError, match=r"1 samples are NaN or infinite, the first at 0\.500 s"):
        load_audio(tmp_path / "a.wav", RATE, 2.0)
    assert np.isfinite(load_audio(tmp_path / "a.wav", RATE, 2.0, start=0.75)).all()


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.mp3"])
@pytest.mark.parametrize("start", [3.5, 1000.0])
def test_start_beyond_the_end_names_the_duration(tmp_path: Path, name: str, start: float) -> None:
    if name == "a.wav":
        soundfile.write(tmp_path / name, tone(RATE, 3.0), RATE)
    else:
        write_av(tmp_path / name, tone(RATE, 3.0), RATE, "aac" if name == "a.mp4" else "mp3")
    # The codecs' frames of 1152 samples or less round the end up.
    with pytest.raises(MediaError, match=r"beyond the end of the sound, which lasts 3\.(0|1)\d s"):
        load_audio(tmp_path / name, RATE, 2.0, start)


@pytest.mark.parametrize("start", [-1.0, math.nan, math.inf])
def test_start_that_is_no_time(start: float) -> None:
    with pytest.raises(SettingsError, match="start is"):
        load_audio((tone(RATE), RATE), RATE, 2.0, start)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.flac", "a.ogg", "a.m4a"])
def test_cut_off_sounds_are_refused(tmp_path: Path, name: str) -> None:
    if name == "a.m4a":
        write_av(tmp_path / name, tone(RATE, 1.9), RATE, "aac")
    else:
        soundfile.write(tmp_path / name, tone(RATE, 1.9), RATE)
    data = (tmp_path / name).read_bytes()
    load_audio(tmp_path / name, RATE, 2.0)
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"cut off at 0\.9|not a sound that can|no sound"):
        load_audio(tmp_path / name, RATE, 2.0)


def test_wav_from_a_pipe_is_no_cut_off_one(tmp_path: Path) -> None:
    """Who writes to a pipe cannot go back and fill in the sizes."""
    soundfile.write(tmp_path / "a.wav", tone(RATE, 1.5), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 4, 0xFFFFFFFF)
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(data)
    got = load_audio(tmp_path / "a.wav", RATE, 2.0)
    np.testing.assert_allclose(got[:24_000], tone(RATE, 1.5), atol=1e-4)  # 16 bits


def test_video_without_sound(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mp4", "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with pytest.raises(MediaError, match="has no sound"):
        load_audio(tmp_path / "a.mp4", RATE, 2.0)


def test_playlist_opens_no_address(tmp_path: Path) -> None:
    """A sound file that is a playlist in disguise must not reach out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        contacts: list[object] = []

        def listen() -> None:
            with contextlib.suppress(TimeoutError):
                connection, address = server.accept()
                connection.close()
                contacts.append(address)

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2,", address, "#EXT-X-ENDLIST"]
        (tmp_path / "a.m3u8").write_text("\n".join(lines))
        with pytest.raises(MediaError, match="not a sound"):
            load_audio(tmp_path / "a.m3u8", RATE, 2.0)
        thread.join()
    assert not contacts


@pytest.mark.parametrize("samples", [np.zeros(100, np.int16), np.zeros((2, 2, 2), np.float32)])
def test_wrong_sample_arrays(samples: np.ndarray) -> None:
    with pytest.raises(MediaError, match="expected floats"):
        load_audio((samples, RATE), RATE, 2.0)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (0, "at 0 Hz, expected .* a positive rate"),
        (10, "10 samples per second, expected 1000 to 1000000"),
        (2**31 - 1, "samples per second, expected 1000 to 1000000"),
    ],
)
def test_impossible_rates(rate: int, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        load_audio((np.zeros(100, np.float32), rate), RATE, 2.0)


# --- films ------------------------------------------------------------------------------------


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
    write_video(tmp_path / "a.mp4", frames, 24, audio, RATE)
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
    heard = load_audio(tmp_path / "a.mp4", RATE, 2.0)
    assert loudness(heard) == loudness(audio)


def test_sound_of_the_video_is_in_time(tmp_path: Path) -> None:
    """The encoder's delay (1024 samples, 1.5 frames) must not be heard."""
    audio = np.zeros(32_000, np.float32)
    audio[20_000:20_040] = 0.8
    write_video(tmp_path / "a.mp4", moving_frames(), 24, audio, RATE)
    heard = load_audio(tmp_path / "a.mp4", RATE, 2.0)
    assert abs(int(np.argmax(np.abs(heard))) - 20_020) < 40


def test_only_mp4_is_written(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.avi: .*give a name that ends in \.mp4"):
        write_video(tmp_path / "a.avi", moving_frames(), 24, steps(RATE, 2.0), RATE)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_old_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", moving_frames(), 24, steps(RATE, 2.0), RATE)
    old = (tmp_path / "a.mp4").read_bytes()

    def no_space(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(MediaError, match=r"a\.mp4: cannot be written: No space left on device"):
        write_video(tmp_path / "a.mp4", moving_frames()[:24], 24, steps(RATE, 1.0), RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == old
