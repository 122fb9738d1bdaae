"""The plot shows the frames, marks the keyframes, and puts sound and motion on one time axis."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keyvid.runtime.clip import Clip
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.plot import contact_sheet, draw_plot, write_plot

SILENCE = Sound(np.zeros((32_000, 1), np.float32), 16_000)

RED = (0xD1, 0x49, 0x5B)
BLUE = (0x1F, 0x5F, 0x8B)


def pixels(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """(H, W) bool: where the picture has this colour."""
    return (np.asarray(image) == colour).all(-1)


def test_contact_sheet_shows_all_frames_in_order() -> None:
    frames = np.zeros((48, 64, 96, 3), np.uint8)
    frames[:, ..., 1] = (np.arange(48) * 5)[:, None, None]  # green tells the frame's number
    sheet = np.asarray(contact_sheet(frames, width=1144))
    height = sheet.shape[0] // 4
    centres = [
        sheet[row * height + height // 3, round((column + 0.5) * 1144 / 12)]
        for row in range(4)
        for column in range(12)
    ]
    assert [tuple(pixel) for pixel in centres] == [(0, 5 * index, 0) for index in range(48)]


def test_contact_sheet_frames_the_keyframes() -> None:
    frames = np.zeros((48, 64, 96, 3), np.uint8)
    without = pixels(contact_sheet(frames), RED)
    assert not without.any()
    framed = pixels(contact_sheet(frames, [0, 13]), RED)
    height, width = framed.shape[0] // 4, framed.shape[1] // 12
    cells = framed[: 4 * height, : 12 * width].reshape(4, height, 12, width).sum((1, 3))
    assert np.flatnonzero(cells > 500).tolist() == [0, 13]


def test_curve_and_marks_stand_at_their_times(clip: Clip) -> None:
    """Peak of the motion and keyframe at 1.0 s, the middle of the axis; clicks elsewhere."""
    motion, audio = np.zeros(48, np.float32), np.zeros(32_000, np.float32)
    motion[24] = 1.0
    clicks = np.array([8_000, 15_200, 24_000])
    audio[clicks[:, None] + np.arange(100)] = np.resize([0.9, -0.9], 100)  # 3 to 4 pixels
    sound = Sound(audio[:, None], 16_000)
    page = draw_plot(replace(clip, motion=motion, sound=sound, keyframes=np.array([0, 24])), "")
    axis = 64 + (1200 - 64 - 28) / 2
    top = np.argwhere(pixels(page, BLUE))[0]
    assert abs(top[1] - axis) <= 6, "beside the keyframe's dot, which covers the peak itself"
    dots = pixels(page, RED)[230:360]
    assert abs(np.flatnonzero(dots[:, 400:].any(0)).mean() + 400 - axis) <= 1
    above_zero = np.asarray(page.convert("L"))[74 + 30, 70:1160]
    seen = np.flatnonzero(above_zero < 200) + 70  # the keyframe's line is lighter
    want = 64 + (clicks + 50) / 32_000 * (1200 - 64 - 28)
    assert np.abs(seen[:, None] - want).min(1).max() <= 3
    assert np.abs(seen[:, None] - want).min(0).max() <= 3


@pytest.mark.parametrize("motion", [np.zeros(48), np.linspace(-0.2, 1.4, 48)])
def test_any_curve_and_silence(clip: Clip, motion: np.ndarray, tmp_path: Path) -> None:
    odd = replace(
        clip,
        motion=motion.astype(np.float32),
        sound=SILENCE,
    )
    write_plot(tmp_path / "a.png", odd, "title")
    with Image.open(tmp_path / "a.png") as page:
        assert page.size == (1200, draw_plot(clip, "").height)


def test_a_sound_of_few_samples(clip: Clip) -> None:
    """The least rate that is read: fewer samples than the enlarged axis has columns."""
    low = replace(clip, sound=Sound(np.full((2_000, 1), 0.5, np.float32), 1_000))
    wave = np.asarray(draw_plot(low, "").convert("L"))[74:184, 70:1160]
    assert (wave < 200).any(0).all(), "drawn from end to end"


def test_a_long_clip_keeps_a_page(clip: Clip) -> None:
    """Five minutes: axis numbers that do not touch, and no more frames than fit a picture."""
    num_frames = 7_201
    frames = np.zeros((num_frames, 8, 12, 3), np.uint8)
    long = replace(
        clip,
        frames=frames,
        motion=np.linspace(0, 1, num_frames, dtype=np.float32),
        keyframes=np.arange(0, num_frames, 5),
    )
    page = np.asarray(draw_plot(long, "").convert("L"))
    assert page.shape[1] == 1200
    assert page.shape[0] < 4_000
    numbers = (page[230 + 130 + 8 : 230 + 130 + 22, 40:1190] < 200).any(0)
    blanks = np.diff(np.flatnonzero(numbers))
    assert 11 <= (blanks > 12).sum() + 1 <= 17, "numbers apart from each other"


def test_of_frames_that_are_skipped_keyframes_are_shown() -> None:
    frames = np.zeros((1_000, 8, 12, 3), np.uint8)  # every third is shown
    frames[:, ..., 1] = 100
    frames[500, ..., 1] = 255
    sheet = np.asarray(contact_sheet(frames, [500]))
    assert (sheet == (0, 255, 0)).all(-1).any()
    assert pixels(Image.fromarray(sheet), RED).sum() > 500
