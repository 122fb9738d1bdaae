"""Motion measured on drawn squares that know nothing of the synthetic world."""

import numpy as np
import pytest

from keyvid.score import motion
from keyvid.score.motion import find_strikes, motion_curve, pose_shift
from tests.score.squares import EVENTS, PLACES, change_place, contact_place, draw_square


@pytest.mark.parametrize("event", PLACES)
@pytest.mark.parametrize("fps", [15, 24, 60])
def test_the_tracked_pose_sees_each_event_between_frames(event: str, fps: int) -> None:
    times = np.arange(2 * fps) / fps
    frames = draw_square(PLACES[event](times))
    strikes = find_strikes(frames, times, event)["tracked pose"]
    assert strikes == pytest.approx(EVENTS, abs=0.4 / min(fps, 24))


@pytest.mark.parametrize("event", PLACES)
def test_the_tracked_pose_bears_noise_and_changing_light(event: str) -> None:
    times = np.arange(48) / 24
    rng = np.random.default_rng(0)
    light = rng.normal(0, 6, (48, 1, 1, 1))
    frames = draw_square(PLACES[event](times)) + rng.normal(0, 8, (48, 60, 80, 3)) + light
    strikes = find_strikes(frames.clip(0, 255).astype(np.uint8), times, event)["tracked pose"]
    assert strikes == pytest.approx(EVENTS, abs=1 / 24)


def test_a_still_picture_does_not_strike_however_it_flickers() -> None:
    times = np.arange(48) / 24
    rng = np.random.default_rng(0)
    still = draw_square(np.zeros(48)).astype(np.float64)
    noise = rng.normal(0, 3, still.shape)
    # Blotches of a decoder: they are as wide as a tenth of the picture.
    blotches = np.repeat(np.repeat(rng.normal(0, 3, (48, 10, 10, 3)), 6, axis=1), 8, axis=2)
    for disturbance in (noise, blotches):
        frames = (still + disturbance).clip(0, 255).astype(np.uint8)
        for event in PLACES:
            assert len(find_strikes(frames, times, event)["tracked pose"]) == 0
    frames = (still + noise).clip(0, 255).astype(np.uint8)
    assert len(find_strikes(frames, times, "contact")["frame difference"]) == 0


def test_the_frame_difference_sees_a_jump_where_it_happens() -> None:
    frames = np.zeros((48, 8, 8, 3), np.uint8)
    frames[12] = 100  # there and back again
    times = np.arange(48) / 24
    assert find_strikes(frames, times, "contact")["frame difference"] == pytest.approx([0.5])


def test_the_motion_curve_does_not_depend_on_the_frame_rate() -> None:
    curves = []
    for fps in (24, 48):
        times = np.arange(2 * fps) / fps
        curves.append(motion_curve(draw_square(change_place(times)), times)[:: fps // 24])
    # In one long step a square changes fewer pixels than in two short ones that leave it.
    assert curves[0].max() == pytest.approx(curves[1].max(), rel=0.25)
    assert curves[0].mean() == pytest.approx(curves[1].mean(), rel=0.25)


def test_times_that_are_not_evenly_spaced_are_kept() -> None:
    times = np.arange(60) / 30
    times = np.delete(times, [7, 20, 41])  # frames that the camera dropped
    strikes = find_strikes(draw_square(contact_place(times)), times, "contact")
    assert strikes["tracked pose"] == pytest.approx(EVENTS, abs=0.03)


@pytest.mark.parametrize(("shift", "strikes"), [(3.6, 0), (4.4, 1)])
def test_what_a_contact_takes(shift: float, strikes: int) -> None:
    """A square that comes and goes, as pale as it takes to shift the pose by that much."""
    place = np.zeros(48)
    place[20:24] = [0.5, 1, 1, 0.5]
    frames = draw_square(place).astype(np.float64)
    paler = shift / pose_shift(frames, 0).max()
    assert paler < 1
    frames = frames[:1] + paler * (frames - frames[:1])
    found = find_strikes(frames, np.arange(48) / 24, "contact")["tracked pose"]
    assert len(found) == strikes


def test_the_pose_shift_is_seen_from_any_frame() -> None:
    place = np.array([0.0, 0.5, 1.0])
    shift = pose_shift(draw_square(place), 1)
    assert shift[1] == 0
    assert shift[0] == pytest.approx(shift[2], rel=0.2)
    assert shift[0] > 4


def test_what_is_seen_in_a_film_does_not_change() -> None:
    """Results of years must stay comparable: numbers of the first version of the measures."""
    rng = np.random.default_rng(3)
    times = np.arange(48) / 24
    seen, curves = {}, {}
    for event, place in PLACES.items():
        noisy = draw_square(place(times)) + rng.normal(0, 5, (48, 60, 80, 3))
        frames = noisy.clip(0, 255).astype(np.uint8)
        seen[event] = find_strikes(frames, times, event)
        curves[event] = float(motion_curve(frames, times).sum())
    contact, change = seen["contact"], seen["change"]
    assert contact["frame difference"] == pytest.approx([0.25, 0.5, 19 / 24, 26 / 24, 1.5])
    assert contact["tracked pose"] == pytest.approx([0.397428, 0.926189, 1.551626], abs=2e-6)
    assert change["frame difference"] == pytest.approx([10 / 24, 22 / 24, 37 / 24])
    assert change["tracked pose"] == pytest.approx([0.39864, 0.933416, 1.553222], abs=2e-6)
    assert curves == pytest.approx({"contact": 427.39750, "change": 348.78656}, abs=1e-4)


@pytest.mark.parametrize(("fps", "frames"), [(12, 2), (24, 2), (30, 2), (50, 4), (72, 6)])
def test_a_jump_is_seen_within_a_twenty_fourth_of_a_second(
    fps: int, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many frames on either side as that, rounded, and one at least."""
    curves: list[np.ndarray] = []
    monkeypatch.setattr(
        motion, "find_extremes", lambda curve, _: curves.append(curve) or np.array([fps])
    )
    motion.track_changes(draw_square(1.0 * (np.arange(2 * fps) >= fps)), np.arange(2 * fps) / fps)
    moving = np.flatnonzero(curves[0] > 1e-3)
    assert moving.tolist() == list(range(fps - frames // 2, fps + frames // 2))
