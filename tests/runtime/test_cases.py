"""Files as they come from cameras, phones and broken downloads: what is right to make of them."""

import re
import struct
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from keyvid.bundle.specs import Dimensions
from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media import picture_file
from keyvid.runtime.media.picture import load_image
from keyvid.runtime.media.sound import Sound, load_sound, read_sound, sound_duration, to_mono
from keyvid.runtime.request import Request, load_inputs

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


NOTES = [0.5, 1.0, 1.5, 2.5]  # seconds at which the next files sounded before they were damaged


@pytest.mark.parametrize(
    ("name", "gap", "strikes"),
    [
        ("ogg_opus_damaged_page.opus", (0.99, 1.19), [0.5, 1.5, 2.5]),
        ("ogg_opus_gap_of_1s.opus", (1.19, 2.19), [0.5, 1.0, 2.5, 3.5]),
        ("ogg_vorbis_two_pages_lost.ogg", (0.84, 1.25), [0.5, 1.5, 2.5]),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.6, 1.3])
def test_ogg_stands_where_its_pages_say(
    name: str,
    gap: tuple[float, float],
    strikes: list[float],
    start: float,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert heard_at(name, start) == pytest.approx([at for at in strikes if at > start], abs=0.01)
    said = f"{name}: nothing is there from {gap[0]:.2f} s to {gap[1]:.2f} s; silence"
    assert (said in caplog.text) == (start < gap[0])


@pytest.mark.parametrize("start", [0.0, 0.7, 1.7])
def test_all_links_of_an_ogg_are_heard(start: float) -> None:
    name = "ogg_opus_two_notes_joined.opus"
    want = [at for at in NOTES if at > start]
    assert heard_at(name, start) == pytest.approx(want, abs=0.02)
    assert sound_duration(CASES / name) == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize("riff_bytes", [0, 36, 1000])
def test_wav_that_was_never_finished(
    tmp_path: Path, riff_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    wave = 0.5 * np.sin(np.arange(48_000) * 0.3)
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 4, riff_bytes)
    struct.pack_into("<I", data, data.index(b"data") + 4, 0)
    (tmp_path / "a.wav").write_bytes(data)
    samples, rate, duration = read_sound(tmp_path / "a.wav", start=1.0)
    np.testing.assert_allclose(samples[:, 0], wave[16_000:], atol=1e-4)  # 16 bits
    assert (rate, duration) == (16_000, 3.0)
    assert sound_duration(tmp_path / "a.wav") == 3.0
    assert "a.wav: its recording was not ended; it is read to the file's end" in caplog.text


def test_flac_without_a_length() -> None:
    name = "flac_length_unknown.flac"
    assert sound_duration(CASES / name) == 3.0
    assert heard_at(name) == pytest.approx(NOTES, abs=0.01)
    assert heard_at(name, 1.2) == pytest.approx(NOTES[2:], abs=0.01)


def test_the_default_track_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    name = "second_track_is_default.mkv"
    assert heard_at(name) == pytest.approx(NOTES, abs=0.03)
    assert "has 2 sounds; track 2 (mono) is heard, not 1 (stereo)" in caplog.text
    caplog.clear()
    silent = load_sound(CASES / name, 2.0, track=1)
    assert silent.samples.shape == (96_000, 2)
    assert not np.abs(silent.samples).max() > 1e-4
    assert "is heard" not in caplog.text, "somebody chose"
    assert sound_duration(CASES / name, track=2) == pytest.approx(3.0, abs=0.03)


def test_a_request_says_which_track(dimensions: Dimensions) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    channels = {
        track: load_inputs(
            Request(picture, CASES / "second_track_is_default.mkv", track=track), dimensions
        ).sound.samples.shape[1]
        for track in (None, 1, 2)
    }
    assert channels == {None: 1, 1: 2, 2: 1}


@pytest.mark.parametrize(
    ("name", "track", "message"),
    [
        ("second_track_is_default.mkv", 3, "track is 3, and the number of its sounds 2; choose"),
        ("flac_length_unknown.flac", 2, "track is 2, and the number of its sounds 1"),
        ("gap.mp4", 0, "track is 0; want the number of one of the file's sounds, from 1"),
        ("gap.mp4", "2", "track is 2; want the number"),
        ("gap.mp4", True, "track is True; want the number"),
    ],
)
def test_tracks_that_there_are_not(name: str, track: int, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        load_sound(CASES / name, 2.0, track=track)


def test_centre_of_a_film_is_heard_3_db_down_on_both_sides() -> None:
    """ITU-R BS.775; the file's peak is 0.7525 in its centre, and 0 elsewhere."""
    samples, rate = load_sound(CASES / "film_51_only_centre.ogg", 3.0)
    assert samples.shape == (3 * rate, 2)
    np.testing.assert_array_equal(samples[:, 0], samples[:, 1])
    assert np.abs(samples).max() == pytest.approx(0.7525 * 0.5**0.5, abs=0.001)
    np.testing.assert_allclose(to_mono(Sound(samples, rate), rate, 3.0), samples[:, 0], atol=1e-6)


# A drawing in four colours, as it is in sRGB: at its middle, near its left edge.
COLOURS = {(32, 48): (50, 70, 190), (5, 5): (28, 200, 60)}


@pytest.mark.parametrize("name", ["png_gama_linear.png", "png_cicp_hdr_pq.png"])
def test_curves_of_pngs_become_srgb(name: str, caplog: pytest.LogCaptureFixture) -> None:
    check_colours(name, tolerance=18)  # eight bits of another curve are coarse in the dark
    assert ("of high dynamic range; what is brighter" in caplog.text) == ("hdr" in name)


@pytest.mark.parametrize(
    ("name", "plugin"), [("picture.heic", "pillow_heif"), ("picture.jxl", "pillow_jxl")]
)
def test_plugins_of_pillow_are_used(name: str, plugin: str) -> None:
    pytest.importorskip(plugin)
    check_colours(name, tolerance=4)


def check_colours(name: str, tolerance: int) -> None:
    image = load_image(CASES / name, 64, 96).astype(int)
    for place, colour in COLOURS.items():
        assert np.abs(image[place] - colour).max() <= tolerance


@pytest.mark.parametrize(
    ("name", "package", "message"),
    [
        ("picture.heic", "pillow_heif", "is a HEIC picture; pip install pillow-heif to have it"),
        ("picture.jxl", "pillow_jxl", "is a JPEG XL picture; pip install pillow-jxl-plugin to"),
    ],
)
def test_the_plugin_that_is_missing_is_named(
    name: str, package: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    with open(CASES / name, "rb", buffering=0) as file, pytest.raises(MediaError, match=message):
        picture_file.load(file, name, 64, 96, "crop", [0.5, 0.5])


def test_jpeg_of_12_bits() -> None:
    with pytest.raises(MediaError, match="is a JPEG of 12 bits per channel, expected 8; convert"):
        load_image(CASES / "jpeg_12_bit.jpg", 64, 96)


@pytest.mark.parametrize("name", ["late.mp4", "gap.mkv"])
def test_a_film_as_a_picture_is_its_first_frame(name: str) -> None:
    with av.open(CASES / name) as container:
        if not container.streams.video:
            pytest.skip("a sound alone")
        first = next(container.decode(video=0)).to_ndarray(format="rgb24")
    want = load_image(first, 64, 96)
    assert np.abs(load_image(CASES / name, 64, 96).astype(int) - want).mean() < 1


def test_a_sound_as_a_picture() -> None:
    with pytest.raises(MediaError, match=r"not a picture that can be read|has no picture"):
        load_image(CASES / "hurt-zero.m4a", 64, 96)
    with pytest.raises(MediaError, match="not a picture that can be read"):
        load_image(CASES / "flac_length_unknown.flac", 64, 96)
