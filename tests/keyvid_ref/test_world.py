"""The synthetic world: seeded, and its picture and sound meet at the events."""

import numpy as np
import pytest

from keyvid_ref import world


def test_same_seed_same_clip() -> None:
    first, second = world.make_clip(10_000), world.make_clip(10_000)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.waveform, second.waveform)
    assert not np.array_equal(first.frames, world.make_clip(10_001).frames)


@pytest.mark.parametrize("kind", list(world.KINDS))
def test_picture_and_sound_meet_at_the_events(kind: str) -> None:
    events = np.array([0.5, 1.25])
    clip = world.make_clip(10_000, kind=kind, events=events)
    assert clip.frames.shape == (48, 64, 96, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.waveform.shape == (32000,)
    contacts = [12, 30]  # 0.5 s and 1.25 s at 24 fps
    np.testing.assert_allclose(clip.pose[contacts], 0, atol=1e-6)
    assert (clip.motion[contacts] > 0.5).all()
    for event in (events * world.SAMPLE_RATE).astype(int):
        before, after = clip.waveform[event - 600 : event], clip.waveform[event : event + 600]
        assert np.abs(after).max() > 3 * np.abs(before).max()


def test_events_are_apart_and_inside_the_clip() -> None:
    rng = np.random.default_rng(0)
    drawn = [world.draw_events(rng) for _ in range(300)]
    assert {len(events) for events in drawn} == set(range(7))
    for events in drawn:
        assert (np.diff(events) >= 0.2 - 1e-9).all()
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
