"""The synchronisation scorer on timings whose score is known."""

import numpy as np
import pytest
import sync_score as score
from sync_score import TimedClip

EVENTS = np.array([0.5, 1.0, 1.6])


def _random_clips(count: int) -> list[TimedClip]:
    rng = np.random.default_rng(0)
    return [TimedClip(rng.uniform(0, 2, 3), rng.uniform(0, 2, 3), 2.0) for _ in range(count)]


def test_perfect_timing_scores_one_and_its_delay_shows() -> None:
    clips = [TimedClip(EVENTS + 0.02, EVENTS, 2.0)] * 5
    scores = score.agree(clips, 42)
    assert scores.f1 == scores.recall == scores.precision == scores.corrected == 1
    assert scores.f1_interval == (1, 1)
    assert score.median_error_ms(clips) == pytest.approx(20)


def test_two_frames_late_is_outside_one_frame_and_within_two() -> None:
    clips = [TimedClip(EVENTS + 2 / 24, EVENTS, 2.0)]
    assert score.agree(clips, 42).f1 == 0
    assert score.agree(clips, 83).f1 == 1
    assert score.median_error_ms(clips) == pytest.approx(2000 / 24)


def test_random_timing_scores_chance() -> None:
    scores = score.agree(_random_clips(400), 83)
    assert 0.1 < scores.chance < 0.4
    assert abs(scores.corrected) < 0.05
    assert scores.corrected_interval[0] < 0 < scores.corrected_interval[1]


def test_the_interval_holds_the_score_and_narrows_with_more_clips() -> None:
    few, many = (score.agree(_random_clips(count), 83) for count in (20, 200))
    for scores in (few, many):
        assert scores.f1_interval[0] < scores.f1 < scores.f1_interval[1]
    assert np.ptp(many.f1_interval) < 0.6 * np.ptp(few.f1_interval)


def test_nothing_seen_scores_zero_and_nothing_to_see_scores_one() -> None:
    unseen = TimedClip(np.zeros(0), EVENTS, 2.0)
    assert score.agree([unseen], 83).f1 == 0
    assert score.agree([unseen], 83).precision == 1
    assert score.median_error_ms([unseen]) is None
    assert score.agree([TimedClip(np.zeros(0), np.zeros(0), 2.0)], 83).f1 == 1


def test_matching_is_one_to_one() -> None:
    # Two strikes around one event: one of them is false.
    clip = TimedClip(np.array([0.48, 0.52]), np.array([0.5]), 2.0)
    assert len(score.match_errors(clip, 83)) == 1
    scores = score.agree([clip], 83)
    assert (scores.f1, scores.recall, scores.precision) == (pytest.approx(2 / 3), 1, 0.5)
    # Greedy matching of the nearest pair would leave an event out; the assignment does not.
    crossed = TimedClip(np.array([0.50, 0.58]), np.array([0.43, 0.51]), 2.0)
    assert len(score.match_errors(crossed, 83)) == 2


def test_a_strike_too_many_costs_precision_alone() -> None:
    clip = TimedClip(np.append(EVENTS, 1.9), EVENTS, 2.0)
    scores = score.agree([clip], 42)
    assert (scores.recall, scores.precision) == (1, 0.75)
    assert scores.f1 == pytest.approx(6 / 7)


def test_a_paired_difference_excludes_zero_only_where_there_is_one() -> None:
    rng = np.random.default_rng(1)
    first = [TimedClip(EVENTS + rng.normal(0, 0.06, 3), EVENTS, 2.0) for _ in range(60)]
    better = [TimedClip((c.strikes + c.events) / 2, c.events, 2.0) for c in first]
    difference, (low, high) = score.f1_difference(first, better, 42)
    assert 0 < low < difference < high
    alike = [TimedClip(EVENTS + rng.normal(0, 0.06, 3), EVENTS, 2.0) for _ in range(60)]
    _, (low, high) = score.f1_difference(first, alike, 42)
    assert low < 0 < high
    assert score.f1_difference(first, first, 42) == (0, (0, 0))


@pytest.mark.parametrize("lag", [-5.0, 0.0, 2.5, 6.0])
def test_the_lag_of_a_moved_curve_is_found(lag: float) -> None:
    frames = np.arange(48)

    def curve(moved: float) -> np.ndarray:
        return sum(np.exp(-(((frames - at - moved) / 2) ** 2)) for at in (14, 21, 33))

    assert score.find_lag(curve(0), curve(lag), 12) == pytest.approx(lag, abs=0.1)
