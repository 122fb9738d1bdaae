import numpy as np
import pytest

from keyvid_ref.keyframes import find_keypoints, select_keyframes, uniform_keyframes


def _bumps(peaks: dict[int, float], num_frames: int = 48) -> np.ndarray:
    """A curve with one narrow bump of the given height at each index."""
    frame = np.arange(num_frames)
    curve = [height * np.exp(-((frame - peak) ** 2) / 2) for peak, height in peaks.items()]
    return np.sum(curve, 0).astype(np.float32)


@pytest.mark.parametrize("index", range(4))
def test_keypoints_are_the_released_ones(parity, index):
    data = parity("keypoints")
    np.testing.assert_array_equal(find_keypoints(data[f"curve{index}"]), data[f"keypoints{index}"])


def test_silence_gives_evenly_spaced_keyframes():
    evenly = [47 * i // 11 for i in range(12)]
    assert uniform_keyframes(48, 12).tolist() == list(range(0, 48, 4))  # the paper's
    assert select_keyframes(np.zeros(48, np.float32), 12).tolist() == evenly
    assert select_keyframes(np.full(48, 0.3, np.float32), 12).tolist() == evenly


def test_peaks_and_the_lowest_frame_between_them_are_chosen():
    curve = _bumps({10: 1.0, 30: 0.8})
    curve[17] = -0.1
    keyframes = select_keyframes(curve, 12)
    assert {0, 10, 17, 30} <= set(keyframes.tolist())


def test_the_rest_divides_the_longest_gaps():
    curve = np.zeros(48)
    curve[[10, 16]] = 1
    curve[[11, 15]] = 0.5
    # Anchors 0, 10, 12, 16, 47: 12 is the first of the lowest between the peaks. The gaps are 10,
    # 2, 4 and 31; the places go to 31, 31 / 2, 31 / 3 and 10.
    assert select_keyframes(curve, 6).tolist() == [0, 10, 12, 16, 31, 47]
    assert select_keyframes(curve, 9).tolist() == [0, 5, 10, 12, 16, 23, 31, 39, 47]


def test_most_prominent_peaks_first_when_there_are_too_many():
    heights = {5: 0.5, 12: 0.9, 19: 0.6, 26: 1.0, 33: 0.7, 40: 0.8}
    keyframes = set(select_keyframes(_bumps(heights), 8).tolist())
    assert keyframes >= {12, 26, 40}  # 8 / 2 - 1 of them
    assert not keyframes & {5, 19, 33}


def test_scale_and_offset_do_not_matter():
    curve = (64 * _bumps({8: 1.0, 20: 0.6, 41: 0.3})).round()  # integers scale without rounding
    chosen = select_keyframes(curve, 12)
    np.testing.assert_array_equal(select_keyframes(64 * curve, 12), chosen)
    np.testing.assert_array_equal(select_keyframes(curve - 2, 12), chosen)


def test_always_distinct_sorted_and_zero_first():
    rng = np.random.default_rng(0)
    for _ in range(500):
        num_frames = int(rng.integers(2, 60))
        num_keyframes = int(rng.integers(2, num_frames + 1))
        keyframes = select_keyframes(rng.random(num_frames).round(2), num_keyframes)
        assert keyframes.dtype == np.int64
        assert len(keyframes) == num_keyframes
        assert keyframes[0] == 0
        assert keyframes[-1] == num_frames - 1
        assert (np.diff(keyframes) > 0).all()


def test_the_end_of_the_clip_is_not_left_bare():
    keyframes = select_keyframes(_bumps({4: 1.0, 10: 0.9, 16: 0.8}), 12)
    assert keyframes[-1] == 47
    assert np.diff(keyframes).max() <= 8
