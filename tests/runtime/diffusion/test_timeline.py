from itertools import pairwise

import numpy as np
import pytest

from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.keyframes import select_keyframes
from keyvid.runtime.diffusion.timeline import (
    OVERLAP,
    all_keyframes,
    check_plan,
    num_window_frames,
    plan_windows,
)


@pytest.fixture
def size(dimensions):
    return dimensions


def motion_of(num_frames, size):
    rng = np.random.default_rng(3)
    return rng.random(num_window_frames(num_frames, size)).astype(np.float32)


@pytest.mark.parametrize("num_frames", [1, 36, 48])
def test_up_to_two_seconds_there_is_one_window(num_frames, size):
    motion = motion_of(num_frames, size)
    (window,) = plan_windows(num_frames, motion, size)
    assert (window.start, window.known, window.stop) == (0, 0, num_frames)
    assert np.array_equal(window.keyframes, select_keyframes(motion, 12))


@pytest.mark.parametrize("num_frames", [49, 92, 93, 240, 1440])
def test_windows_cover_the_clip_and_share_frames(num_frames, size):
    windows = plan_windows(num_frames, motion_of(num_frames, size), size)
    assert windows[-1].stop == num_frames
    for before, window in pairwise(windows):
        assert window.start + window.known == before.stop == before.start + size.frames
        assert window.known == OVERLAP
        assert window.keyframes[:2].tolist() == [0, OVERLAP - 1]
        assert len(set(window.keyframes.tolist())) == size.keyframes
        assert (np.diff(window.keyframes) > 0).all()
        assert window.keyframes[-1] < size.frames
    keyframes = all_keyframes(windows)
    assert keyframes.tolist() == sorted(set(keyframes.tolist()))
    assert keyframes[-1] < num_frames


@pytest.mark.parametrize("num_frames", [48, 90, 92, 130])
def test_keyframes_of_all_windows_are_counted_from_the_start_of_the_clip(num_frames, size):
    """Evenly spread ones stay so across the seams, which shared frames end with."""
    windows = plan_windows(num_frames, motion_of(num_frames, size), size, "uniform")
    assert len(windows) == {48: 1, 90: 2, 92: 2, 130: 3}[num_frames]
    assert all_keyframes(windows).tolist() == list(range(0, num_frames, 4))


def test_a_minute_takes_no_more_than_a_tenth_more_than_its_windows_side_by_side(size):
    assert len(plan_windows(1440, motion_of(1440, size), size)) <= 1.1 * 30


def test_what_is_quiet_beside_the_whole_is_no_peak(size):
    motion = np.zeros(num_window_frames(96, size), np.float32)
    motion[10] = 1.0
    motion[70] = 0.05
    windows = plan_windows(96, motion, size)
    assert 10 in windows[0].keyframes
    rest = plan_windows(96, np.where(motion < 1, 0, motion), size)[1]
    assert np.array_equal(windows[1].keyframes, rest.keyframes)


def test_a_list_of_keyframes_is_for_one_window(size):
    given = ",".join(map(str, range(0, 48, 4)))
    check_plan(48, size, given)
    check_plan(96, size, "uniform")
    with pytest.raises(SettingsError, match="are for a clip of 48 frames, this one has 96"):
        check_plan(96, size, given)
