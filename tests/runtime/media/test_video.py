"""A clip out, in every kind of file."""

import io
import math
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from keyvid.errors import MediaError, SettingsError
from keyvid.runtime.media.encoder import to_yuv420
from keyvid.runtime.media.sound import Sound, load_sound, to_mono
from keyvid.runtime.media.video import write_video

RATE = 16_000


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


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.avi: .*give a name that ends in \.mp4, \.webm, "):
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


def psnr(got: np.ndarray, want: np.ndarray) -> float:
    """Decibels over the squared difference of two pictures or films."""
    error = np.mean((got.astype(float) - want) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else np.inf


def read_frames(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames (F, H, W, 3) as a reader that heeds no tags shows them, and their times in seconds."""
    if path.suffix in (".mp4", ".webm"):
        with av.open(path) as container:
            frames = list(container.decode(video=0))
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
        return np.stack(pictures), np.array([frame.time for frame in frames])
    pictures, times = [], [0.0]
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            pictures.append(np.asarray(image.convert("RGB")))
            times.append(times[-1] + image.info["duration"] / 1000)
    return np.stack(pictures), np.array(times[:-1])


# GIF has 256 colours a frame, and steps of 10 ms.
@pytest.mark.parametrize(
    ("suffix", "least_psnr", "tick"),
    [(".mp4", 38, 1e-3), (".webm", 36, 1e-3), (".webp", 34, 1e-3), (".gif", 34, 1e-2)],
)
def test_every_kind_reads_back(tmp_path: Path, suffix: str, least_psnr: int, tick: float) -> None:
    frames = moving_frames()
    write_video(tmp_path / f"a{suffix}", frames, 24, mono_sound(steps(RATE, 2.0)))
    got, times = read_frames(tmp_path / f"a{suffix}")
    assert np.abs(times - np.arange(48) / 24).max() <= tick
    assert psnr(got, frames) > least_psnr
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_sound_of_webm_is_in_time(tmp_path: Path) -> None:
    audio = np.zeros(32_000, np.float32)
    audio[20_000:20_040] = 0.8
    write_video(tmp_path / "a.webm", moving_frames(), 24, mono_sound(audio))
    with av.open(tmp_path / "a.webm") as container:
        assert container.streams.video[0].codec_context.name == "vp9"
        assert container.streams.audio[0].codec_context.name in ("opus", "libopus")
    heard = to_mono(load_sound(tmp_path / "a.webm", 2.0), RATE, 2.0)
    assert abs(int(np.argmax(np.abs(heard))) - 20_020) < 40


@pytest.mark.parametrize("suffix", [".webp", ".gif", ""])
def test_what_has_no_sound_says_so(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_video(tmp_path / f"a{suffix}", moving_frames()[:2], 24, mono_sound(steps(RATE, 2.0)))
    assert caplog.messages == [
        f"{tmp_path}/a{suffix}: holds no sound, as this kind of file has none"
    ]


@pytest.mark.parametrize("name", ["out", "out.d/"])
def test_folder_of_pictures(tmp_path: Path, name: str) -> None:
    frames = moving_frames()[:12]
    write_video(f"{tmp_path}/{name}", frames, 24, mono_sound(steps(RATE, 2.0)))
    files = sorted((tmp_path / name).iterdir())
    assert [file.name for file in files] == [f"{index:05d}.png" for index in range(12)]
    np.testing.assert_array_equal(
        np.stack([np.asarray(Image.open(file)) for file in files]), frames
    )
    with pytest.raises(MediaError, match="is a folder that is not empty; name a new one"):
        write_video(f"{tmp_path}/{name}", frames, 24, mono_sound(steps(RATE, 2.0)))


TO_STDOUT = """
import numpy as np
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.video import write_video
frames = np.zeros((6, 64, 96, 3), np.uint8)
write_video("{path}", frames, 24, Sound(np.zeros((4000, 1), np.float32), 16_000))
"""


def test_standard_output_gets_the_same_file(tmp_path: Path) -> None:
    def run(path: str) -> bytes:
        code = TO_STDOUT.format(path=path)
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path
        ).stdout

    assert run("a.mp4") == b""
    assert run("-") == (tmp_path / "a.mp4").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_standard_output() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", TO_STDOUT.format(path="-")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    last = done.stderr.splitlines()[-1]
    assert last == "keyvid.errors.MediaError: -: cannot be written: No space left on device"


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".webp", ".gif"])
@pytest.mark.parametrize("size", [(64, 96), (66, 98)])
def test_equal_frames_give_equal_bytes(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    """Where encoders read beyond narrow pictures, each writing differs (x264's mbtree: all six)."""
    frames, sound = moving_frames(*size)[:12], mono_sound(steps(RATE, 0.5))
    written = set()
    for index in range(6):
        _other_memory = [np.full(1 << (12 + index), index, np.uint8) for _ in range(50)]
        write_video(tmp_path / f"{index}{suffix}", iter(frames), 24, sound)
        written.add((tmp_path / f"{index}{suffix}").read_bytes())
    assert len(written) == 1


PATCHES = np.array(
    [(255, 0, 0), (0, 255, 0), (0, 0, 255), (220, 40, 40), (250, 200, 40), (128, 128, 128)],
    np.uint8,
)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("scale", [1, 8])
def test_players_are_told_the_colours(tmp_path: Path, suffix: str, scale: int) -> None:
    """Read by the tagged matrix, and by readers that heed no tags, as small and as large film."""
    frame = np.repeat(np.repeat(PATCHES[None], 64, 0), 16, 1)  # (64, 96, 3)
    path = tmp_path / f"a{suffix}"
    write_video(path, [frame] * 4, 24, mono_sound(steps(RATE, 1.0)), scale=scale)
    with av.open(path) as container:
        context = container.streams.video[0].codec_context
        tags = (context.color_primaries, context.color_trc, context.colorspace, context.color_range)
        assert tags == (1, 13, 6, 1)  # BT.709 primaries, sRGB, BT.601 matrix, limited range
        planes = next(container.decode(video=0)).to_ndarray().astype(float)
    height, width = 64 * scale, 96 * scale
    luma = planes[:height]
    blue, red = planes[height:].reshape(2, height // 2, width // 2)
    centres = (np.arange(6) * 16 + 8) * scale
    y = (luma[height // 2, centres] - 16) / 219
    cb, cr = (plane[height // 4, centres // 2] / 224 - 128 / 224 for plane in (blue, red))
    by_tags = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1)
    assert np.abs(by_tags * 255 - PATCHES).max() < 4  # crf 10; planes are rounded to 1 in 220
    assert np.abs(read_frames(path)[0][0][height // 2, centres] - PATCHES.astype(int)).max() < 4


def test_chroma_stands_beside_the_left_pixel() -> None:
    """A wave in colour keeps its place: its samples are those of the even columns."""
    columns = np.arange(64)
    frame = np.full((2, 64, 3), 128, np.uint8)  # the blue plane is the third row's first half
    frame[..., 2] = np.round(128 + 60 * np.sin(columns / 5))
    blue = to_yuv420(frame)[2].astype(float)[:32]
    left, centre = (128 + 224 / 255 * 30 * np.sin((columns[::2] + x) / 5) for x in (0.0, 0.5))
    assert np.abs(blue - left)[1:].max() < 1.5
    assert np.abs(blue - centre)[1:].max() > 2


def test_mp4_plays_before_it_is_loaded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_frames(), 24, mono_sound(steps(RATE, 2.0)))
    content = (tmp_path / "a.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(tmp_path / "a.mp4") as container:
        order = [(packet.stream.type, packet.pos) for packet in container.demux() if packet.size]
    places = {kind: [at for other, at in order if other == kind] for kind in ("video", "audio")}
    assert min(places["video"]) < max(places["audio"])
    assert min(places["audio"]) < max(places["video"]), "sound and picture are interleaved"


@pytest.mark.parametrize(("enlargement", "exact"), [("nearest", True), ("lanczos", False)])
def test_scale(tmp_path: Path, enlargement: str, exact: bool) -> None:
    frames = moving_frames()[:2]
    write_video(
        tmp_path / "out", frames, 24, mono_sound(steps(RATE, 1.0)), scale=2, enlargement=enlargement
    )
    got = np.asarray(Image.open(tmp_path / "out" / "00001.png"))
    assert got.shape == (128, 192, 3)
    assert (got[::2, ::2] == frames[1]).all() == exact
    assert psnr(got[::2, ::2], frames[1]) > 30


@pytest.mark.parametrize("scale", [0, 9, 1.5, True, -1])
def test_wrong_scales(tmp_path: Path, scale: int) -> None:
    with pytest.raises(SettingsError, match="want a whole number from 1 to 8"):
        write_video(
            tmp_path / "a.mp4", moving_frames(), 24, mono_sound(steps(RATE, 1)), scale=scale
        )


def test_frames_may_come_one_by_one_and_must_come(tmp_path: Path) -> None:
    sound = mono_sound(steps(RATE, 2.0))
    write_video(tmp_path / "a.mp4", moving_frames(), 24, sound)
    write_video(tmp_path / "b.mp4", (frame for frame in moving_frames()), 24, sound)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with pytest.raises(MediaError, match="no frames"):
        write_video(tmp_path / "c.mp4", [], 24, sound)
    assert not (tmp_path / "c.mp4").exists()


def test_replacing_a_clip_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        write_video(tmp_path / "a.mp4", moving_frames()[:2], 24, mono_sound(steps(RATE, 1.0)))
    assert caplog.messages == [f"{tmp_path}/a.mp4: took the place of an older file"]


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff\xfe")
    folder.mkdir()
    write_video(folder / "a.mp4", moving_frames()[:2], 24, mono_sound(steps(RATE, 1.0)))
    assert [path.name for path in folder.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("kind", [".mp4", ".gif"])
def test_an_open_file_is_written_to(kind: str, tmp_path: Path) -> None:
    frames = np.zeros((6, 32, 48, 3), np.uint8)
    sound = Sound(tone(RATE, 0.25)[:, None], RATE)
    write_video(tmp_path / f"clip{kind}", frames, 24, sound)
    buffer = io.BytesIO()
    write_video(buffer, frames, 24, sound, kind=kind)
    assert buffer.getvalue() == (tmp_path / f"clip{kind}").read_bytes()
    with pytest.raises(SettingsError, match=r"kind 'avi': want one of \.mp4"):
        write_video(buffer, frames, 24, sound, kind="avi")
