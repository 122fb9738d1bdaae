import re

import numpy as np
import pytest

from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.keyframes import (
    find_peaks,
    parse_keyframes,
    select_keyframes,
    uniform_keyframes,
)
from keyvid.runtime.motion import SUFFIXES


@pytest.mark.parametrize("curve", range(4))
def test_keypoints_fixture(curve, parity):
    data = parity("keypoints")
    motion = data[f"curve{curve}"]
    found = np.zeros(48)
    found[find_peaks(motion, 5, 0.1)] = 1
    found[find_peaks(-motion, 5, 0.1)] = -1
    assert np.array_equal(found, data[f"keypoints{curve}"])


def test_of_two_equal_peaks_too_close_the_later_stays():
    curve = np.zeros(20)
    curve[[5, 8]] = 1
    assert find_peaks(curve, 5, 0.1).tolist() == [8]


def test_peaks_and_the_valleys_between_are_keyframes():
    motion = np.zeros(48)
    peaks = [10, 22, 40]
    motion[peaks] = [1.0, 0.5, 0.8]
    motion[[15, 30]] = -0.2
    chosen = select_keyframes(motion, 12)
    assert {0, *peaks, 15, 30} <= set(chosen.tolist())


def test_only_the_most_prominent_peaks_are_kept():
    motion = np.zeros(48)
    motion[3:48:6] = [0.2, 0.9, 0.3, 1.0, 0.25, 0.8, 0.7, 0.6]  # 8 peaks, room for 5
    chosen = set(select_keyframes(motion, 12).tolist())
    assert {9, 21, 33, 39, 45} <= chosen


@pytest.mark.parametrize("level", [0.0, 1.0, -3.0])
def test_no_motion_gives_evenly_spaced_keyframes(level):
    flat = np.full(48, level, np.float32)
    flat[::7] += np.float32(1e-7) * level  # rounding is not motion
    assert select_keyframes(flat, 12).tolist() == [47 * i // 11 for i in range(12)]


def test_always_enough_distinct_ascending_frames_and_nothing_left_bare():
    rng = np.random.default_rng(1)
    for trial in range(300):
        num_frames = int(rng.integers(12, 60))
        num_keyframes = int(rng.integers(2, 13))
        motion = rng.standard_normal(num_frames).cumsum()
        chosen = select_keyframes(motion, num_keyframes)
        assert chosen.dtype == np.int64
        assert len(chosen) == num_keyframes
        assert chosen[0] == 0
        assert (np.diff(chosen) > 0).all()
        assert chosen[-1] == num_frames - 1
        assert np.array_equal(chosen, select_keyframes(3 * motion + 1, num_keyframes)), trial


def test_uniform():
    assert uniform_keyframes(48, 12).tolist() == list(range(0, 48, 4))
    assert uniform_keyframes(50, 4).tolist() == [0, 12, 25, 37]


def test_parse():
    assert parse_keyframes("auto", 48, 12) is None
    uniform = parse_keyframes("uniform", 48, 12)
    assert uniform is not None
    assert uniform.tolist() == list(range(0, 48, 4))
    given = parse_keyframes("0, 3,47", 48, 3)
    assert given is not None
    assert given.dtype == np.int64
    assert given.tolist() == [0, 3, 47]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a list of numbers"),
        ("even", "not a list of numbers"),
        ("marks.txt", "or a {}, {} or {} file of them$".format(*map(re.escape, SUFFIXES))),
        ("0,1.5,3", "not a list of numbers"),
        ("0,1", "2 given"),
        ("0,1,2,3", "4 given"),
        ("1,2,3", "the first must be 0"),
        ("0,5,5", "ascending"),
        ("0,9,5", "ascending"),
        ("0,5,48", "48 is past the last frame, 47"),
        ("0,5,99999999999999999999", "past the last frame"),
    ],
)
def test_parse_says_what_is_wrong(text, complaint):
    with pytest.raises(SettingsError, match=complaint) as error:
        parse_keyframes(text, 48, 3)
    assert "uniform" in str(error.value)  # the message lists what is valid
