"""How generated clips look beside true ones: drawn squares with known faults."""

import numpy as np
import pytest

from bench.quality.picture import PictureScores, judge_picture, psnr
from tests.score.squares import EVENTS, change_place, contact_place, draw_square

TIMES = np.arange(48) / 24


def judge(frames: np.ndarray, truth: np.ndarray) -> PictureScores:
    return judge_picture(frames, truth, TIMES, EVENTS)


def noisy(frames: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, frames.shape)
    return np.rint(frames + noise).clip(0, 255).astype(np.uint8)


def test_psnr() -> None:
    zeros, ones = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    assert psnr(ones, zeros) == pytest.approx(48.13, abs=0.01)  # 20 log10 255
    assert psnr(zeros, zeros + np.uint8(255)) == 0  # no wrap-around
    assert psnr(zeros, zeros) == pytest.approx(138, abs=1)


def test_the_true_clip_is_perfect_and_noise_is_measured() -> None:
    truth = draw_square(contact_place(TIMES))
    perfect = judge(truth, truth)
    assert perfect.flicker == perfect.end_shift == 0
    assert perfect.motion_energy == 1
    of_noise = judge(noisy(truth, 4), truth)
    assert of_noise.flicker == pytest.approx(4, rel=0.05)
    for measured in (of_noise.still_psnr_db, of_noise.rest_psnr_db, of_noise.moving_psnr_db):
        assert measured == pytest.approx(20 * np.log10(255 / 4), abs=0.3)
    assert not of_noise.moves_at_end
    still = judge(truth[:1].repeat(48, axis=0), truth)
    assert still.motion_energy == 0


def test_where_there_is_nothing_of_the_kind_there_is_no_measure() -> None:
    rng = np.random.default_rng(0)
    moving = rng.integers(0, 255, (48, 8, 8, 3)).astype(np.uint8)
    restless = judge(moving, moving)
    assert restless.still_psnr_db is restless.flicker is None
    assert restless.rest_psnr_db is restless.end_shift is restless.moves_at_end is None
    still = moving[:1].repeat(48, axis=0)
    assert judge(still, still).motion_energy is None
    assert judge(still, still).moving_psnr_db is None
    silent = judge_picture(moving, moving, TIMES, np.zeros(0))
    assert silent.moving_psnr_db is None


def test_what_has_gone_over_must_be_there_at_the_end() -> None:
    """A square that dissolves where it should rest: nothing else is wrong."""
    truth = draw_square(change_place(TIMES))
    frames = truth.copy()
    frames[40:] = truth[0]
    scores = judge(frames, truth)
    assert scores.rest_psnr_db is not None
    assert scores.rest_psnr_db < 20
    assert scores.moving_psnr_db == pytest.approx(138, abs=1)


def test_what_is_smeared_at_events_is_seen_in_what_moves_alone() -> None:
    truth = draw_square(contact_place(TIMES))
    near = np.abs(TIMES[:, None] - EVENTS).min(axis=1) < 0.1
    frames = truth.copy()
    frames[near] = truth[0]
    scores = judge(frames, truth)
    assert scores.moving_psnr_db is not None
    assert scores.moving_psnr_db < 20
    assert scores.still_psnr_db == scores.rest_psnr_db == pytest.approx(138, abs=1)


@pytest.mark.parametrize("size", [(64, 96), (96, 160)])
def test_a_false_fall_in_the_last_two_frames_is_seen_at_any_size(size: tuple[int, int]) -> None:
    place = contact_place(TIMES)
    truth = draw_square(place, *size)
    place[-2:] = (0.25, 0.5)
    falling = judge(noisy(draw_square(place, *size), 5), truth)
    assert falling.moves_at_end
    assert not judge(noisy(truth, 5), truth).moves_at_end
