"""A likeness is kept by encoders, and not by what shows or sounds otherwise."""

import numpy as np
import pytest

from keyvid.provenance.likeness import (
    CELLS,
    pack,
    picture_difference,
    picture_likeness,
    picture_numbers,
    sound_difference,
    sound_levels,
    sound_likeness,
    unpack,
    window_seconds,
)
from tests.verify.made import made_clip

FPS = 24


def difference(frames: np.ndarray, start: float = 0.0, fps: float = FPS) -> float:
    """How far frames are from the made-up clip."""
    whole = made_clip().frames
    wanted = np.stack([picture_likeness(whole[n]) for n in picture_numbers(len(whole))])
    found = np.stack([picture_likeness(frame) for frame in frames])
    return picture_difference(wanted, len(whole), FPS, found, start + np.arange(len(frames)) / fps)


def test_parts_and_other_rates_of_a_clip_are_alike() -> None:
    frames = made_clip().frames
    assert difference(frames) == 0
    assert difference(frames, start=100.0) == 0
    assert difference(frames[5:15]) == 0
    assert difference(frames[:, ::2, ::2]) < 2
    assert difference(np.repeat(frames, 2, axis=0), fps=48) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: frames[:, ::-1],
        lambda frames: frames[..., ::-1],
        lambda frames: frames[::-1],
        lambda frames: np.roll(frames, 24, axis=2),
    ],
    ids=["upside down", "other colours", "backwards", "moved"],
)
def test_other_pictures_are_not(change: object) -> None:
    assert difference(change(made_clip().frames)) > 6  # type: ignore[operator]


def test_one_picture_that_is_another_shows() -> None:
    frames = made_clip().frames.copy()
    frames[12] = 255 - frames[12]
    assert difference(frames) > 20


def test_no_pictures() -> None:
    assert (
        picture_difference(np.zeros((1, CELLS)), 1, FPS, np.zeros((0, CELLS)), np.zeros(0)) == 255
    )


def test_sounds() -> None:
    sound, rate = made_clip(48).sound
    wanted, window = sound_likeness(sound, rate, 2.0), window_seconds(2.0)
    assert wanted.shape == (16,)
    for start in (0, 3_000, 16_000):
        assert sound_difference(wanted, sound_levels(sound[start:], rate, window)) < 1
    assert sound_difference(wanted, sound_levels(sound[::-1], rate, window)) > 4
    assert sound_difference(wanted, sound_levels(0.2 * sound, rate, window)) > 4
    silence = sound_likeness(np.zeros((0, 1), np.float32), rate, 2.0)
    assert silence.size == 0


def test_what_is_packed_is_read() -> None:
    values = np.arange(200, dtype=np.uint8)
    assert np.array_equal(unpack(pack(values)), values)
