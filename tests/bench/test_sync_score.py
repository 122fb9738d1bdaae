"""The synchronisation scorer on timings whose score is known."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def score() -> ModuleType:
    path = Path(__file__).parents[2] / "bench" / "sync_score.py"
    spec = importlib.util.spec_from_file_location("sync_score", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_perfect_timing_scores_one_and_its_delay_shows(score: ModuleType) -> None:
    events = np.array([0.5, 1.0, 1.6])
    clips = [score.TimedClip(events + 0.02, events, 2.0)] * 5
    assert score.f1(clips, 0.042) == 1
    assert score.median_error_ms(clips, 0.125) == pytest.approx(20)
    assert score.f1_interval(clips, 0.042) == (1, 1)


def test_random_timing_scores_chance(score: ModuleType) -> None:
    rng = np.random.default_rng(0)
    clips = [score.TimedClip(rng.uniform(0, 2, 3), rng.uniform(0, 2, 3), 2.0) for _ in range(400)]
    value, chance = score.f1(clips, 0.083), score.chance_f1(clips, 0.083)
    assert 0.1 < chance < 0.4
    assert abs(score.corrected(value, chance)) < 0.05


def test_matching_is_one_to_one(score: ModuleType) -> None:
    # Two peaks around one event: one of them is false.
    clip = score.TimedClip(np.array([0.48, 0.52]), np.array([0.5]), 2.0)
    assert len(score.match_errors(clip, 0.083)) == 1
    assert score.f1([clip], 0.083) == pytest.approx(2 / 3)
    # Greedy matching of the nearest pair would leave an event out; the assignment does not.
    crossed = score.TimedClip(np.array([0.50, 0.58]), np.array([0.43, 0.51]), 2.0)
    assert len(score.match_errors(crossed, 0.083)) == 2


def test_still_frames_have_no_peaks(score: ModuleType) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (48, 8, 8, 3)).astype(np.uint8)  # flicker of one grey level
    assert len(score.motion_peaks(score.motion_curve(noise), 24)) == 0


def test_a_jump_is_a_peak_where_it_happens(score: ModuleType) -> None:
    frames = np.zeros((48, 8, 8, 3), np.uint8)
    frames[12] = 100  # there and back again
    assert score.motion_peaks(score.motion_curve(frames), 24) == pytest.approx([0.5])
