"""Sounds of all kinds in: the wanted part, as it is and as a network hears it."""

import contextlib
import io
import logging
import math
import socket
import struct
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media.sound import load_sound, read_sound, sound_duration, to_mono

RATE = 16_000


def load_mono(source, rate: int, seconds: float, start: float = 0.0) -> np.ndarray:
    """The part of a sound as a network at `rate` hears it."""
    return to_mono(load_sound(source, seconds, start), rate, seconds)


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
    got = load_mono((tone(rate), rate), RATE, 2.0)
    assert got.shape == (32_000,)
    assert got.dtype == np.float32
    # A windowed-sinc resampler is exact but at the ends, where it sees silence beyond the sound.
    assert np.abs(got - tone(RATE))[200:-200].max() < 1e-4


def test_resampling_is_band_limited() -> None:
    got = load_mono((tone(44_100, hertz=12_000), 44_100), RATE, 2.0)
    assert np.abs(got[200:-200]).max() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 7, 64])
def test_channels_are_averaged(tmp_path: Path, channels: int) -> None:
    wave = np.zeros((32_000, channels), np.float32)
    wave[:, -1] = tone(RATE)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    got = load_mono(tmp_path / "a.wav", RATE, 2.0)
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
    got = load_mono(tmp_path / name, RATE, 2.0)
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
    got = load_mono(tmp_path / name, RATE, 2.0, start)
    first = round(4 * start)
    assert loudness(got) == [round(0.1 * (1 + (first + i) % 8), 1) for i in range(8)]


def test_start_inside_a_lossy_sound_is_exact(tmp_path: Path) -> None:
    write_av(tmp_path / "a.m4a", steps(RATE, 3.0), RATE, "aac")
    whole = load_mono(tmp_path / "a.m4a", RATE, 3.0)
    part = load_mono(tmp_path / "a.m4a", RATE, 1.0, start=1.3)
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
    got = load_mono(tmp_path / "a.mp3", RATE, 2.0, start=3.75)
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
    got = load_mono(path, RATE, 2.0, start=10.0)
    assert loudness(got) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


def test_longer_sound_is_cut_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = load_mono((steps(RATE, 5.0), RATE), RATE, 2.0, start=1.0)
    assert loudness(got) == [0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.3, 0.4]
    assert "lasts 5.00 s, used from 1 s to 3 s" in caplog.text


def test_short_sound_is_padded_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = load_mono((tone(RATE, 0.1), RATE), RATE, 2.0)
    np.testing.assert_array_equal(got[:1600], tone(RATE, 0.1))
    assert not got[1600:].any()
    assert got.shape == (32_000,)
    assert "0.10 s of sound" in caplog.text


def test_silence_works_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        got = load_mono((np.zeros(32_000, np.float32), RATE), RATE, 2.0)
    assert not got.any()
    assert "silent" in caplog.text


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_is_refused_where_it_is_used(tmp_path: Path, bad: float) -> None:
    wave = tone(RATE, 3.0)
    wave[8000] = bad
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    with pytest.raises(MediaError, match=r"1 samples are NaN or infinite, the first at 0\.500 s"):
        load_mono(tmp_path / "a.wav", RATE, 2.0)
    assert np.isfinite(load_mono(tmp_path / "a.wav", RATE, 2.0, start=0.75)).all()


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.mp3"])
@pytest.mark.parametrize("start", [3.5, 1000.0])
def test_start_beyond_the_end_names_the_duration(tmp_path: Path, name: str, start: float) -> None:
    if name == "a.wav":
        soundfile.write(tmp_path / name, tone(RATE, 3.0), RATE)
    else:
        write_av(tmp_path / name, tone(RATE, 3.0), RATE, "aac" if name == "a.mp4" else "mp3")
    # The codecs' frames of 1152 samples or less round the end up.
    with pytest.raises(MediaError, match=r"beyond the end of the sound, which lasts 3\.(0|1)\d s"):
        load_mono(tmp_path / name, RATE, 2.0, start)


@pytest.mark.parametrize("start", [-1.0, math.nan, math.inf])
def test_start_that_is_no_time(start: float) -> None:
    with pytest.raises(SettingsError, match="start is"):
        load_mono((tone(RATE), RATE), RATE, 2.0, start)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.flac", "a.ogg", "a.m4a"])
def test_cut_off_sounds_are_refused(tmp_path: Path, name: str) -> None:
    if name == "a.m4a":
        write_av(tmp_path / name, tone(RATE, 1.9), RATE, "aac")
    else:
        soundfile.write(tmp_path / name, tone(RATE, 1.9), RATE)
    data = (tmp_path / name).read_bytes()
    load_mono(tmp_path / name, RATE, 2.0)
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=r"cut off at (0\.9|1\.0)|not a sound that can|no sound"):
        load_mono(tmp_path / name, RATE, 2.0)


def test_wav_from_a_pipe_is_no_cut_off_one(tmp_path: Path) -> None:
    """Who writes to a pipe cannot go back and fill in the sizes."""
    soundfile.write(tmp_path / "a.wav", tone(RATE, 1.5), RATE)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", data, 4, 0xFFFFFFFF)
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(data)
    got = load_mono(tmp_path / "a.wav", RATE, 2.0)
    np.testing.assert_allclose(got[:24_000], tone(RATE, 1.5), atol=1e-4)  # 16 bits


def test_video_without_sound(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mp4", "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with pytest.raises(MediaError, match="has no sound"):
        load_mono(tmp_path / "a.mp4", RATE, 2.0)


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
            load_mono(tmp_path / "a.m3u8", RATE, 2.0)
        thread.join()
    assert not contacts


@pytest.mark.parametrize("samples", [np.zeros(100, np.int64), np.zeros((2, 2, 2), np.float32)])
def test_wrong_sample_arrays(samples: np.ndarray) -> None:
    with pytest.raises(MediaError, match="expected floats"):
        load_mono((samples, RATE), RATE, 2.0)


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
        load_mono((np.zeros(100, np.float32), rate), RATE, 2.0)


@pytest.mark.parametrize("rate", [RATE, float(RATE), np.float32(RATE), np.int64(RATE)])
def test_rates_of_any_type(rate: float) -> None:
    assert load_sound((tone(RATE), rate), 2.0).rate == RATE


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64, "list"])
def test_arrays_of_any_kind(channels_first: bool, kind: Any) -> None:
    stereo = np.stack([tone(RATE), 2 * tone(RATE)], axis=1)
    given: Any = stereo.T if channels_first else stereo
    given = given.tolist() if kind == "list" else given.astype(kind)
    np.testing.assert_allclose(load_sound((given, RATE), 2.0).samples, stereo)


@pytest.mark.parametrize("name", ["a.wav", "a.mp4", "a.mp3"])
def test_open_files(tmp_path: Path, name: str) -> None:
    if name == "a.wav":
        soundfile.write(tmp_path / name, steps(RATE, 3.0), RATE)
    else:
        write_av(tmp_path / name, steps(RATE, 3.0), RATE, "aac" if name == "a.mp4" else "mp3")
    want = load_sound(tmp_path / name, 1.0, 1.5)
    buffer = io.BytesIO((tmp_path / name).read_bytes())
    np.testing.assert_array_equal(load_sound(buffer, 1.0, 1.5).samples, want.samples)
    with open(tmp_path / name, "rb") as file:
        np.testing.assert_array_equal(load_sound(file, 1.0, 1.5).samples, want.samples)


def test_standard_input(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(RATE), RATE)
    load = "from keyvid.runtime.media.sound import load_sound"
    code = f"{load}; print(load_sound('-', 2.0).samples.shape)"
    with open(tmp_path / "a.wav", "rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=file, capture_output=True, check=True
        )
    assert done.stdout == b"(32000, 1)\n"


class NoArray:
    """Says that it is an array, and fails when it has to be one."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise RuntimeError("cannot leave\nits device")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((), "audio is a tuple of 0"),
        ((tone(RATE),), "audio is a tuple of 1"),
        ((NoArray(), RATE), "cannot leave its device"),
        ((tone(RATE), "fast"), "could not convert string"),
        ((tone(RATE), math.nan), "at nan Hz"),
        ((tone(RATE), -1.0), "at -1 Hz"),
        ((tone(RATE), 22_050.5), "audio rate is 22050.5 Hz, expected a whole number"),
        ((["a"], RATE), "expected floats"),
        ((np.zeros((100, 100), np.float32), RATE), "100 channels, expected 1 to 64"),
        ((np.zeros(0, np.float32), RATE), "holds no sound"),
        ((np.zeros((2, 0), np.float32), RATE), "holds no sound|unknown number of channels"),
        ((np.zeros((0, 2), np.float32), RATE), "holds no sound"),
        ((np.zeros((100, 0), np.float32), RATE), "an unknown number of channels"),
        ((32_767 * tone(RATE), RATE), "samples reach 163.*, expected -1 to 1; divide them"),
        (None, "the sound is a NoneType; give the name of a file"),
        (io.BytesIO(), "is empty"),
        (io.StringIO("text"), "give a file that is open for reading bytes"),
        ("a\0b", "no file can have this name"),
        ("x" * 300, "File name too long"),
        ("", "No such file"),
        (".", "is not a file"),
    ],
)
def test_what_is_no_sound(source: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        load_sound(source, 2.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.mkv"])
def test_duration_and_all_of_a_sound(tmp_path: Path, name: str) -> None:
    if name in ("a.m4a", "a.mkv"):
        write_av(tmp_path / name, steps(RATE, 5.0), RATE, "aac")
    else:
        soundfile.write(tmp_path / name, steps(RATE, 5.0), RATE)
    whole = read_sound(tmp_path / name)
    # Codecs with loss round up to their frames of up to 1152 samples.
    assert 5.0 <= len(whole.samples) / RATE < 5.0 + 2 * 1152 / RATE
    assert sound_duration(tmp_path / name) == pytest.approx(len(whole.samples) / RATE, abs=0.08)
    assert sound_duration((tone(RATE, 3.0), RATE)) == 3.0


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_blocks_of_a_long_sound_make_the_whole(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, steps(RATE, 30.0), RATE)
    whole = read_sound(tmp_path / name)
    blocks = [read_sound(tmp_path / name, 7.0, at).samples for at in range(0, 30, 7)]
    joined = np.concatenate(blocks)
    assert joined.shape == whole.samples.shape
    np.testing.assert_allclose(joined, whole.samples, atol=1e-4)  # MP3 is computed in floats


PEAK = """
import resource
from keyvid.runtime.media import isolation
from keyvid.runtime.media.sound import read_sound
def peak(start):
    read_sound("a.mp3", 2.0, start)
    isolation.end_all()
    return sum(resource.getrusage(who).ru_maxrss
               for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
before = peak(0.0)
print(peak(1500.0) - before)
"""


def test_memory_is_that_of_the_excerpt(tmp_path: Path) -> None:
    """All of it, half an hour, is 115 MB."""
    soundfile.write(tmp_path / "a.mp3", steps(RATE, 30.0), RATE, bitrate_mode="CONSTANT")
    (tmp_path / "a.mp3").write_bytes((tmp_path / "a.mp3").read_bytes() * 60)
    assert sound_duration(tmp_path / "a.mp3") > 1800
    done = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, check=True, cwd=tmp_path
    )
    assert int(done.stdout) < 40_000  # KiB


@pytest.mark.parametrize("name", ["a.mp3", "a.aiff"])
def test_decoders_print_nothing(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / name, steps(RATE, 2.0), RATE)
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(whole)
        for at in rng.integers(0, 400, 8):
            data[at] = rng.integers(256)
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(MediaError):
            load_sound(tmp_path / name, 2.0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("kind", "scale", "zero"),
    [(np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.uint8, 2**7, 128), (np.float64, 1, 0)],
)
def test_samples_as_wav_files_have_them(kind: Any, scale: int, zero: int) -> None:
    wave = tone(RATE)
    samples = (wave.astype(np.float64) * scale + zero).astype(kind)
    for source in ((samples, RATE), (RATE, samples), (np.int64(RATE), samples)):
        heard = load_sound(source, 2.0).samples[:, 0]
        assert np.abs(heard - wave).max() <= 1.0 / scale + 1e-6


def test_the_bytes_of_a_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(RATE), RATE)
    content = (tmp_path / "a.wav").read_bytes()
    want = load_sound(tmp_path / "a.wav", 2.0)
    for source in (content, bytearray(content), memoryview(content)):
        assert np.array_equal(load_sound(source, 2.0).samples, want.samples)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            np.zeros(32_000, np.float32),
            r"audio is a ndarray without its rate; give",
        ),
        ([0.0] * 32_000, r"audio is a list without its rate"),
        ((np.zeros(32_000, np.int64), RATE), "audio samples are int64"),
        ((RATE, RATE), r"audio samples are .* \(\)"),
        (None, "the sound is a NoneType; give the name of a file"),
    ],
)
def test_sources_without_a_rate_or_a_sound(source: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        load_sound(source, 2.0)
