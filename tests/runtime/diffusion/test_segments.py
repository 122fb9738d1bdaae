from itertools import pairwise

import numpy as np
import pytest

from keyvid.errors import SettingsError
from keyvid.runtime.diffusion.keyframes import select_keyframes
from keyvid.runtime.diffusion.segments import (
    OVERLAP,
    all_keyframes,
    num_segment_frames,
    plan_segments,
    read_keyframes,
)


@pytest.fixture
def size(dimensions):
    return dimensions


def motion_of(num_frames, size):
    rng = np.random.default_rng(3)
    return rng.random(num_segment_frames(num_frames, size)).astype(np.float32)


@pytest.mark.parametrize("num_frames", [1, 36, 48])
def test_up_to_two_seconds_there_is_one_segment(num_frames, size):
    motion = motion_of(num_frames, size)
    (segment,) = plan_segments(num_frames, motion, size)
    assert (segment.start, segment.known, segment.stop) == (0, 0, num_frames)
    assert np.array_equal(segment.keyframes, select_keyframes(motion, 12))


@pytest.mark.parametrize("num_frames", [49, 92, 93, 240, 1440])
def test_segments_cover_the_clip_and_share_frames(num_frames, size):
    segments = plan_segments(num_frames, motion_of(num_frames, size), size)
    assert segments[-1].stop == num_frames
    for before, segment in pairwise(segments):
        assert segment.start + segment.known == before.stop == before.start + size.frames
        assert segment.known == OVERLAP
        assert segment.keyframes[:2].tolist() == [0, OVERLAP - 1]
        assert len(set(segment.keyframes.tolist())) == size.keyframes
        assert (np.diff(segment.keyframes) > 0).all()
        assert segment.keyframes[-1] < size.frames
    keyframes = all_keyframes(segments)
    assert keyframes.tolist() == sorted(set(keyframes.tolist()))
    assert keyframes[-1] < num_frames


@pytest.mark.parametrize("num_frames", [44, 48, 88, 90, 92, 130])
def test_keyframes_of_all_segments_are_counted_from_the_start_of_the_clip(num_frames, size):
    """Evenly spread ones stay so across the seams, which shared frames end with."""
    uniform = read_keyframes("uniform", num_frames, size)
    segments = plan_segments(num_frames, motion_of(num_frames, size), size, uniform)
    assert len(segments) == {44: 1, 48: 1, 130: 3}.get(num_frames, 2)
    assert all_keyframes(segments).tolist() == list(range(0, num_frames, 4))


@pytest.mark.parametrize("keyframes", ["auto", "uniform"])
@pytest.mark.parametrize("num_frames", [2, 36, 48, 49, 97, 240])
def test_a_given_last_frame_is_a_keyframe_that_the_segments_come_to_in_equal_parts(
    num_frames, keyframes, size
):
    given = read_keyframes(keyframes, num_frames, size)
    motion = np.random.default_rng(3).random(num_segment_frames(num_frames, size, ends=True))
    segments = plan_segments(num_frames, motion, size, given, ends=True)
    *earlier, last = segments
    assert last.stop == num_frames
    assert last.end == num_frames - 1 - last.start
    assert all(segment.end is None for segment in earlier)
    assert all_keyframes(segments)[-1] == num_frames - 1
    for segment in segments:
        assert len(set(segment.keyframes.tolist())) == size.keyframes
        assert segment.keyframes[0] == 0
    for before, segment in pairwise(segments):
        assert segment.start == before.start + before.shared.start
        assert before.stop == before.start + before.shared.stop == segment.start + segment.known
    new = [segment.new.stop - segment.new.start for segment in segments]
    assert sum(new) == num_frames
    assert max(new) - min(new) <= OVERLAP + len(segments)


def test_a_minute_takes_no_more_than_a_tenth_more_than_its_segments_side_by_side(size):
    assert len(plan_segments(1440, motion_of(1440, size), size)) <= 1.1 * 30


def test_what_is_quiet_beside_the_whole_is_no_peak(size):
    motion = np.zeros(num_segment_frames(96, size), np.float32)
    motion[10] = 1.0
    motion[70] = 0.05
    segments = plan_segments(96, motion, size)
    assert 10 in segments[0].keyframes
    rest = plan_segments(96, np.where(motion < 1, 0, motion), size)[1]
    assert np.array_equal(segments[1].keyframes, rest.keyframes)


def test_a_list_of_keyframes_is_for_one_segment(size):
    given = ",".join(map(str, range(0, 48, 4)))
    read_keyframes(given, 48, size)
    uniform = read_keyframes("uniform", 96, size)
    assert uniform.tolist() == list(range(0, 48, 4))
    with pytest.raises(SettingsError, match="are for a clip of 48 frames, this one has 96"):
        read_keyframes(given, 96, size)
