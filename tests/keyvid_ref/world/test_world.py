"""The synthetic world: seeded, and its picture and sound meet at the events."""

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import find_peaks

from keyvid.runtime.media.sound import load_sound
from keyvid.runtime.media.video import write_video
from keyvid.score.film import read_film
from keyvid.score.results import observe, score_clips
from keyvid_ref.presets import PRESETS
from keyvid_ref.world import world
from keyvid_ref.world.files import write_clip


def test_same_seed_same_clip() -> None:
    first, second = world.make_clip(10_000), world.make_clip(10_000)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.waveform, second.waveform)
    assert not np.array_equal(first.frames, world.make_clip(10_001).frames)


# What seeds give and scores were measured on: seed, kind, events (s), mean grey level of the clip,
# deviation of frame 24, effective loudness, mean motion. Another order of drawing would change all
# of them; rounding, which may differ between processors, none.
GIVEN = [
    (10000, "hammer", [0.5588, 1.2912], 193.568, 51.971, 0.034724, 0.2021),
    (10001, "ball", [0.6169, 0.8796, 1.13], 155.003, 39.741, 0.039385, 0.2416),
    (10002, "drum", [0.2616, 1.2557], 184.890, 67.518, 0.042308, 0.2394),
    (10003, "shaker", [0.4935, 0.7787, 1.2479, 1.8981], 121.617, 28.505, 0.019297, 0.2185),
    (10004, "mouth", [0.7694, 1.1272], 104.661, 59.581, 0.076708, 0.0909),
    (1000005, "flower", [0.2869, 1.6488], 181.518, 41.830, 0.123313, 0.2657),
]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: given[1])
def test_seeds_give_what_they_gave(
    given: tuple[int, str, list[float], float, float, float, float],
) -> None:
    seed, kind, events, grey, deviation, loudness, motion = given
    clip = world.make_clip(seed, 96, 160, kind=kind)
    np.testing.assert_allclose(clip.events, events, atol=1e-4)
    assert clip.frames.mean() == pytest.approx(grey, abs=2e-3)
    assert clip.frames[24].std() == pytest.approx(deviation, abs=2e-3)
    assert np.sqrt(np.square(clip.waveform).mean()) == pytest.approx(loudness, rel=1e-4)
    assert clip.motion.mean() == pytest.approx(motion, abs=2e-4)


@pytest.mark.parametrize("kind", list(world.KINDS))
def test_longer_clips_have_events_everywhere(kind: str) -> None:
    clip = world.make_clip(10_000, 16, 24, kind=kind, seconds=9)
    assert clip.frames.shape == (216, 16, 24, 3)
    assert clip.waveform.shape == (144_000,)
    assert len(clip.pose) == len(clip.motion) == 216
    assert (np.diff(clip.events) >= world.KINDS[kind].gap).all()
    assert np.histogram(clip.events, bins=3, range=(0, 9))[0].min() >= 2
    moving = np.flatnonzero(clip.motion > 0) / world.FPS
    away = np.abs(moving[:, None] - clip.events).min(axis=1)
    assert away.max() < 0.5  # longest movement, and nothing moves on its own


def test_a_long_clip_shows_one_scene_and_rests_as_a_short_one_does() -> None:
    """Drawn two seconds at a time, without a seam."""
    long = world.make_clip(10_000, events=np.array([0.5, 2.0, 5.0]), seconds=6.5)
    short = world.make_clip(10_000, events=np.array([0.5]))
    assert len(long.frames) == 156
    np.testing.assert_array_equal(long.frames[:40], short.frames[:40])  # until the second event
    for rest in (36, 72, 100, 155):
        np.testing.assert_array_equal(long.frames[rest], short.frames[0])
    assert np.argmin(long.pose[40:60]) == 8  # the event at a seam, 2.0 s


def test_things_that_mean_nothing_sound_anywhere_in_a_long_clip() -> None:
    def level(seed: int) -> np.ndarray:
        clip = world.make_clip(seed, 8, 8, kind="hammer", events=np.array([]), seconds=10)
        return np.abs(clip.waveform).reshape(5, -1).max(axis=1)  # each two seconds

    heard = np.array([level(seed) for seed in range(10)]) > 0.05
    assert heard[:, 2:].any(axis=0).all()


def test_a_clip_is_not_shorter_than_two_seconds() -> None:
    with pytest.raises(ValueError, match=r"2 s or more, not 1\.5 s"):
        world.make_clip(10_000, seconds=1.5)


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


def test_the_packaged_model_is_said_to_know_the_kinds_of_the_world() -> None:
    assert PRESETS["tiny"].prompts == tuple(world.KINDS)


@pytest.mark.parametrize("kind", ["mouth", "drum"])
def test_files_say_what_the_score_needs(kind: str, tmp_path: Path) -> None:
    clip = world.make_clip(world.TEST_SEEDS[0], 64, 96, kind=kind)
    write_clip(clip, tmp_path, kind)
    sound = load_sound(tmp_path / f"{kind}.wav", world.SECONDS)
    write_video(tmp_path / f"{kind}.mp4", clip.frames, world.FPS, sound)
    scores = score_clips([observe(read_film(tmp_path / f"{kind}.mp4"))])
    assert scores.events == len(clip.events) > 0
    assert scores.by["tracked pose"].at_ms[83].f1 == 1.0
