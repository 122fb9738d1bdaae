"""The synchronisation scorer on timings whose score is known."""

import numpy as np
import pytest

from keyvid.score import agreement as score
from keyvid.score.agreement import TimedClip

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


def test_scores_do_not_change() -> None:
    """Results of years must stay comparable: numbers of the first version of the scorer."""
    contact = np.array([0.25, 0.5, 19 / 24, 26 / 24, 1.2, 1.5])
    change = np.array([10 / 24, 22 / 24, 1.2, 37 / 24])
    clips = [TimedClip(strikes, np.array([0.4, 0.93, 1.55]), 2.0) for strikes in (contact, change)]
    scores = score.agree(clips, 83)
    numbers = (scores.f1, scores.recall, scores.precision, scores.chance, scores.corrected)
    assert numbers == pytest.approx((0.5, 2 / 3, 0.4, 0.33125, 0.2523364), abs=1e-6)
    assert scores.f1_interval == pytest.approx((0.2222222, 0.8571429), abs=1e-6)
    assert scores.corrected_interval == pytest.approx((-0.09375, 0.7674419), abs=1e-6)
    assert score.median_error_ms(clips) == pytest.approx(-8.333333)
    difference, interval = score.f1_difference(clips, clips[::-1], 83)
    assert difference == 0
    assert interval == pytest.approx((-0.6349206, 0.6349206), abs=1e-6)


def test_an_interval_leaves_two_and_a_half_per_cent_on_either_side() -> None:
    """F1 of one clip in 20 that scores: the number of times it is drawn, which is binomial."""
    hit, miss = TimedClip(EVENTS, EVENTS, 2.0), TimedClip(EVENTS + 0.3, EVENTS, 2.0)
    clips = [hit] * 12 + [miss] * 8
    drawn = np.random.default_rng(7).binomial(20, 0.6, 200_000) / 20
    want = np.percentile(drawn, [2.5, 97.5])
    assert score.agree(clips, 42).f1_interval == pytest.approx(want, abs=1e-9)


def test_which_clips_are_drawn_does_not_change() -> None:
    """Intervals of years must stay comparable, too: the numbers of twenty random clips."""
    scores = score.agree(_random_clips(20), 83)
    assert scores.f1_interval == pytest.approx((0.18333333333333332, 0.4166666666666667), abs=1e-6)


def test_a_thousandth_is_forgiven_and_no_more() -> None:
    """Half of one beyond the tolerance, for times that are rounded to thousandths."""
    for late, matches in ((0.0424, 1), (0.0426, 0)):
        clip = TimedClip(np.array([0.5 + late]), np.array([0.5]), 2.0)
        assert len(score.match_errors(clip, 42)) == matches
