"""Recordings in the drawn world: they sound when the picture moves, and change nothing else."""

from pathlib import Path

import numpy as np
import pytest

from keyvid_ref.world import world
from keyvid_ref.world.recordings import (
    STRUCK,
    Recordings,
    load_recordings,
    recorded_noise,
    recorded_strikes,
    recorded_swell,
    recorded_tone,
    recorded_voice,
)
from tests.keyvid_ref.world.recordings_folder import RATE, write_recordings

EVENTS = np.array([0.01, 0.5, 1.0, 1.9])
SAMPLES = 2 * RATE


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return load_recordings(write_recordings(tmp_path_factory.mktemp("recordings") / "all"))


def _loud(dry: np.ndarray) -> np.ndarray:
    """(2000,) whether each millisecond is more than a twentieth as loud as the loudest."""
    loudness = np.abs(dry).reshape(-1, RATE // 1000).max(axis=1)
    return loudness > loudness.max() / 20


@pytest.mark.parametrize("seed", range(5))
def test_strikes_begin_at_the_events(recordings: Recordings, seed: int) -> None:
    """Whatever the speed at which a one-shot is played; one cut by the beginning is heard too."""
    rng = np.random.default_rng(seed)
    dry = recorded_strikes(("metal",), recordings, EVENTS, SAMPLES, RATE, rng)
    assert dry.shape == (SAMPLES,)
    loud = _loud(dry)
    for event in EVENTS[1:]:
        before, after = round(1000 * event) - 100, round(1000 * event)
        assert not loud[before : after - 3].any()
        assert loud[after : after + 10].any()


@pytest.mark.parametrize("seed", range(5))
def test_a_voice_is_heard_from_each_odd_event_to_the_next(
    recordings: Recordings, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    loud = _loud(recorded_voice(recordings, EVENTS, SAMPLES, RATE, rng))
    assert loud[40:480].mean() > 0.9
    assert not loud[530:970].any()
    assert loud[1030:1870].mean() > 0.9


def test_a_tone_glides_and_may_be_silent_without_events(recordings: Recordings) -> None:
    def crossings(part: np.ndarray) -> int:
        return int((np.diff(np.signbit(part)) != 0).sum())

    tone = recorded_tone(recordings, np.array([1.0]), SAMPLES, RATE, np.random.default_rng(1))
    assert crossings(tone[-RATE // 2 :]) > 1.2 * crossings(tone[: RATE // 2])
    silent = [
        not recorded_tone(recordings, np.zeros(0), SAMPLES, RATE, np.random.default_rng(s)).any()
        for s in range(20)
    ]
    assert 0 < sum(silent) < 20


@pytest.mark.parametrize("seed", range(8))
def test_noise_has_unit_power_and_swells_no_edge(recordings: Recordings, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = recorded_noise(recordings, SAMPLES, rng)
    assert noise.shape == (SAMPLES,)
    assert noise.std() == pytest.approx(1, rel=1e-3)
    swell = np.abs(recorded_swell(recordings, SAMPLES, RATE, rng)).reshape(-1, RATE // 100).max(1)
    assert np.diff(swell).max() < 0.5


def test_recordings_change_the_sound_alone(recordings: Recordings) -> None:
    for seed in range(4):
        drawn = world.make_clip(seed, 24, 40)
        heard = world.make_clip(seed, 24, 40, recordings=recordings)
        np.testing.assert_array_equal(heard.frames, drawn.frames)
        np.testing.assert_array_equal(heard.events, drawn.events)
        assert np.abs(heard.waveform - drawn.waveform).max() > 0.01
        again = world.make_clip(seed, 24, 40, recordings=recordings)
        np.testing.assert_array_equal(again.waveform, heard.waveform)
        assert np.abs(heard.waveform).max() <= 1


def test_each_kind_has_a_recorded_sound(recordings: Recordings) -> None:
    rng = np.random.default_rng(0)
    for kind in world.KINDS.values():
        dry = kind.recorded(recordings, EVENTS, SAMPLES, RATE, rng)
        assert np.abs(dry).max() > 0.1


def test_a_family_without_recordings_is_named(tmp_path: Path) -> None:
    folder = write_recordings(tmp_path / "all")
    for path in (folder / "voice").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no recordings of voice"):
        load_recordings(folder)
    assert "voice" not in STRUCK
