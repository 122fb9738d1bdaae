"""Files as they come from cameras, phones and broken downloads: what is right to make of them."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from keyvid.errors import MediaError
from keyvid.runtime.media.picture import load_image
from keyvid.runtime.media.sound import load_sound, read_sound, to_mono

CASES = Path(__file__).parents[1] / "cases"
CLICKS = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5]  # seconds at which the example's sound strikes


def heard_at(name: str, start: float = 0.0) -> list[float]:
    """Seconds on the file's clock at which strikes begin that are heard from `start` on."""
    samples, rate, _ = read_sound(CASES / name, start=start)
    loud = np.flatnonzero(np.abs(samples).max(axis=1) > 0.3 * np.abs(samples).max()) / rate
    return [float(at) + start for at in loud[np.diff(loud, prepend=-1) > 0.1]]


# A lossy codec's delay is part of what some containers say of time: 25 ms.
@pytest.mark.parametrize(
    ("name", "shift", "strikes"),
    [
        ("gap.mkv", 0.025, CLICKS),
        ("gap.mp4", 0.0, CLICKS),
        ("hurt-zero.m4a", 0.0, CLICKS),
        ("late.mp4", 0.6, [at for at in CLICKS if at < 3]),
        ("mono-then-stereo.mp3", 0.025, CLICKS[:2]),
        ("rate-change.mp3", 0.025, CLICKS[:2]),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.6, 0.7])
def test_sound_stands_where_its_timestamps_say(
    name: str, shift: float, strikes: list[float], start: float
) -> None:
    want = [at + shift for at in strikes if at + shift > start]
    assert heard_at(name, start)[: len(want)] == pytest.approx(want, abs=0.01)


# Not gap.mkv: its timestamps are whole milliseconds.
@pytest.mark.parametrize("name", ["gap.mp4", "hurt-zero.m4a", "late.mp4", "rate-change.mp3"])
def test_any_start_gives_the_same_samples(name: str) -> None:
    whole = read_sound(CASES / name)
    for start in (0.55, 1.0, 1.3, 2.0):
        part = read_sound(CASES / name, 1.0, start)
        first = round(start * whole.rate)
        want = whole.samples[first : first + len(part.samples)]
        error = np.abs(part.samples - want)
        assert part.samples.shape == (whole.rate, whole.samples.shape[1])
        # A stretch of another rate begins elsewhere, and is resampled from there.
        assert np.quantile(error, 0.99) < 0.01


@pytest.mark.parametrize(
    ("name", "at"),
    [("hurt-zero.m4a", 1.44), ("mono-then-stereo.mp3", 1.04), ("rate-change.mp3", 1.04)],
)
def test_damage_is_said_and_silent(name: str, at: float, caplog: pytest.LogCaptureFixture) -> None:
    load_sound(CASES / name, 2.0)
    assert f"damaged at {at:.2f} s" in caplog.text
    caplog.clear()
    read_sound(CASES / name, 0.4, 0.55)
    assert "damaged" not in caplog.text, "that part is whole"


def test_silence_before_a_late_sound() -> None:
    samples, rate = load_sound(CASES / "late.mp4", 2.0)
    assert not samples[: round(0.57 * rate)].any()
    assert samples[round(0.58 * rate) :].any()


def test_channels_that_cancel_each_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wave = 0.5 * np.sin(np.arange(32_000) * 0.3)
    soundfile.write(tmp_path / "antiphase.wav", np.stack([wave, -0.95 * wave], 1), 16_000)
    mono = to_mono(load_sound(tmp_path / "antiphase.wav", 2.0), 16_000, 2.0)
    np.testing.assert_allclose(mono, wave, atol=1e-4)  # 16 bits
    assert "cancel each other when they are mixed: channel 1 of 2 is heard alone" in caplog.text


@pytest.mark.parametrize("field", ["bits", "codec"])
def test_codecs_that_nobody_knows(tmp_path: Path, field: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"fmt ") + 8
    struct.pack_into("<H", data, at + (14 if field == "bits" else 0), 0 if field == "bits" else 999)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(MediaError, match=r"codec that is not known here|not a sound that can be"):
        load_sound(tmp_path / "a.wav", 2.0)


@pytest.mark.parametrize("name", ["exif-width-bytes.jpg", "exif-xres-nan.jpg", "noeoi.jpg"])
def test_damaged_jpegs(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with Image.open(CASES / "exif-width-bytes.jpg") as image:
        want = np.asarray(
            image.convert("RGB").transpose(Image.Transpose.ROTATE_270).resize((64, 96))
        )
    got = load_image(CASES / name, 96, 64)
    assert np.abs(got.astype(int) - want).mean() < 4  # another filter
    assert ("what could be read of it is used" in caplog.text) == (name == "noeoi.jpg")


@pytest.mark.parametrize("name", ["red-adobe.jpg", "red-p3.png"])
def test_colour_profiles(name: str) -> None:
    image = load_image(CASES / name, 64, 96).astype(int)
    assert np.abs(image - (220, 40, 40)).max() <= 2


def test_portrait(caplog: pytest.LogCaptureFixture) -> None:
    """600x900; cropped to 3:2, 56 % of it are lost."""
    load_image(CASES / "portrait.png", 64, 96)
    assert "56 % of the picture are cut off, at its top and bottom" in caplog.text
    sky = load_image(CASES / "portrait.png", 64, 96, position="top")[0, 0]
    with Image.open(CASES / "portrait.png") as image:
        np.testing.assert_array_equal(sky, image.convert("RGB").getpixel((0, 0)))
