"""The synthetic world: seeded, and its picture and sound meet at the events."""

import numpy as np
import pytest
from scipy.signal import find_peaks

from keyvid_ref import world


def test_same_seed_same_clip() -> None:
    first, second = world.make_clip(10_000), world.make_clip(10_000)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.waveform, second.waveform)
    assert not np.array_equal(first.frames, world.make_clip(10_001).frames)


@pytest.mark.parametrize("kind", list(world.KINDS))
def test_picture_and_sound_meet_at_the_events(kind: str) -> None:
    events = np.array([0.5, 1.25])  # frames 12 and 30
    clip = world.make_clip(10_000, kind=kind, events=events)
    assert clip.frames.shape == (48, 64, 96, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.waveform.shape == (32000,)
    peaks, _ = find_peaks(clip.motion, height=0.5, distance=5)
    assert len(peaks) == 2
    np.testing.assert_allclose(peaks, [12, 30], atol=1)
    at_events = 0.0 if world.KINDS[kind].event == "contact" else 0.5
    np.testing.assert_allclose(clip.pose[[12, 30]], at_events, atol=1e-6)
    np.testing.assert_allclose(clip.pose[[0, 47]], 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["hammer", "ball", "drum", "shaker"])
def test_what_strikes_is_heard_at_once(kind: str) -> None:
    clip = world.make_clip(10_000, kind=kind, events=np.array([0.5, 1.25]))
    for event in (8000, 20000):
        before, after = clip.waveform[event - 600 : event], clip.waveform[event : event + 600]
        assert np.abs(after).max() > 2 * np.abs(before).max()


def test_a_mouth_is_heard_while_it_is_open() -> None:
    clip = world.make_clip(10_000, kind="mouth", events=np.array([0.5, 1.25]))
    level = np.abs(clip.waveform).reshape(40, 800).max(axis=1)  # each 50 ms
    assert level[11:24].min() > 3 * max(level[:9].max(), level[32:].max())


def test_other_events_leave_the_first_frame_as_it_is() -> None:
    first, second = world.make_clip(10_002), world.make_clip(10_002, events=np.array([1.0, 1.5]))
    np.testing.assert_array_equal(first.frames[0], second.frames[0])
    assert not np.array_equal(first.frames, second.frames)


@pytest.mark.parametrize("kind", list(world.KINDS))
def test_events_are_apart_and_inside_the_clip(kind: str) -> None:
    rng = np.random.default_rng(0)
    drawn = [world.draw_events(rng, world.KINDS[kind]) for _ in range(300)]
    counts = {"flower": {0, 1, 2, 3}, "mouth": {0, 2, 4, 6}}.get(kind, set(range(7)))
    assert {len(events) for events in drawn} == counts
    for events in drawn:
        assert (np.diff(events) >= 0.2).all()
        assert ((events >= 0.25) & (events <= 1.9)).all()


def test_nothing_moves_without_an_event() -> None:
    clip = world.make_clip(10_000, events=np.array([]))
    assert (clip.frames == clip.frames[0]).all()
    assert (clip.motion == 0).all()


def test_splits_are_disjoint() -> None:
    splits = [world.TRAIN_SEEDS, world.VALIDATION_SEEDS, world.TEST_SEEDS]
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            assert first.stop <= second.start or second.stop <= first.start
