"""A synthetic world to learn from: small scenes that move when the sound does.

A clip is two seconds, or as many as are asked for: 24 frames and 16,000 samples of mono sound each,
both made from one list of event times. Objects, colours, places, backgrounds, cameras and timbres
are drawn from the clip's seed; motion anticipates each event, so that sound and picture meet there.
Some sounds belong to nothing that is seen, and some clips have no event.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from keyvid_ref.world import scenes
from keyvid_ref.world import sound as sounds
from keyvid_ref.world.drawing import Camera, Canvas, draw_palette
from keyvid_ref.world.recordings import (
    Recordings,
    recorded_strikes,
    recorded_tone,
    recorded_voice,
)

NUM_FRAMES = 48
FPS = 24
SAMPLE_RATE = 16000
SECONDS = NUM_FRAMES / FPS
_FIRST_EVENT = 0.25
_COUNT_WEIGHTS = np.array([0.1, 0.15, 0.2, 0.2, 0.17, 0.12, 0.06])  # of 0 to 6 events in 2 s
_FLASH_SECONDS = 0.2

# Seeds are split once and for all: what is trained on is never measured on.
TRAIN_SEEDS = range(1_000_000, 2_000_000)
VALIDATION_SEEDS = range(10_000)
TEST_SEEDS = range(10_000, 20_000)


@dataclass(frozen=True)
class WorldClip:
    """One clip of the world and what is known about it; F = 48 and N = 32000 in two seconds.

    frames: (F, H, W, 3) uint8; waveform: (N,) float32 in [-1, 1]; events: (n,) seconds;
    pose: (F,) in [0, 1], 1 at rest; see `Kind.event`.
    """

    kind: str
    frames: np.ndarray
    waveform: np.ndarray
    events: np.ndarray
    pose: np.ndarray

    @property
    def motion(self) -> np.ndarray:
        """(F,) mean absolute frame difference, centred, at most 1; zeros if nothing moves."""
        pairs = pairwise(self.frames)
        steps = [np.abs(after - before.astype(np.float32)).mean() for before, after in pairs]
        curve = (np.append(steps, steps[-1]) + np.insert(steps, 0, steps[0])) / 2
        return (curve / max(curve.max(), 1e-6)).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """A kind of scene: how it is drawn, how it sounds and what its events are.

    event: "contact", the part touches (pose 0) and returns; or "change", the part goes over to its
    other state, pose 1 to 0 at the first event, back at the second, fastest at the event.
    seconds: range of the time that a movement takes: the fall of a contact (the return is slower),
    the whole of a change. gap: least seconds between events; last: latest event of two seconds.
    paired: events come in twos, beginning and end. recorded: its sound made of recordings, and in
    how many of the clips with recordings it is heard.
    """

    draw: Callable[[scenes.Scene, np.random.Generator], None]
    sound: Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray]
    recorded: Callable[[Recordings, np.ndarray, int, int, np.random.Generator], np.ndarray]
    event: str
    seconds: tuple[float, float]
    gap: float = 0.22
    last: float = 1.9
    paired: bool = False
    recorded_share: float = 0.8


KINDS = {
    "hammer": Kind(
        scenes.draw_hammer,
        partial(sounds.struck_sound, sounds.BAR),
        partial(recorded_strikes, ("metal",)),
        "contact",
        (0.15, 0.21),
    ),
    "ball": Kind(
        scenes.draw_ball,
        partial(sounds.struck_sound, sounds.THUMP),
        partial(recorded_strikes, ("thump",)),
        "contact",
        (0.15, 0.21),
    ),
    "drum": Kind(
        scenes.draw_drum,
        partial(sounds.struck_sound, sounds.MEMBRANE),
        partial(recorded_strikes, ("drum",)),
        "contact",
        (0.15, 0.21),
    ),
    "shaker": Kind(
        scenes.draw_shaker,
        sounds.shaker_sound,
        partial(recorded_strikes, ("rustle",)),
        "change",
        (0.12, 0.17),
    ),
    "mouth": Kind(
        scenes.draw_mouth, sounds.mouth_sound, recorded_voice, "change", (0.1, 0.15), paired=True
    ),
    "flower": Kind(
        scenes.draw_flower,
        sounds.flower_sound,
        recorded_tone,
        "change",
        (0.35, 0.45),
        gap=0.4,
        last=1.7,
        recorded_share=0.4,
    ),
}


def draw_events(rng: np.random.Generator, kind: Kind, seconds: float = SECONDS) -> np.ndarray:
    """Ascending event times in seconds, `kind.gap` apart at least.

    There are 0 to 6 for each two seconds, as many as have room in them; they fall anywhere.
    """
    most = 1 + int((kind.last - _FIRST_EVENT) / (1.3 * kind.gap))
    num_stretches = sounds.num_stretches(seconds)
    drawn = rng.choice(len(_COUNT_WEIGHTS), size=num_stretches, p=_COUNT_WEIGHTS)
    counts = np.minimum(drawn, most)
    if kind.paired:
        counts += counts % 2
    count = int(counts.sum())
    last = kind.last + (seconds - SECONDS)
    slack = last - _FIRST_EVENT - kind.gap * max(count - 1, 0)
    return _FIRST_EVENT + np.sort(rng.uniform(0, slack, count)) + kind.gap * np.arange(count)


def contact_pose(times: np.ndarray, events: np.ndarray, fall: float, rise: float) -> np.ndarray:
    """Height in [0, 1] at `times` (s) of a part that touches at each event.

    It comes down within `fall` seconds before an event, ever faster, and is thrown back up within
    `rise` seconds after it, ever slower; where two events are close it turns before the top.
    """
    pose = np.ones_like(times)
    for event in events:
        before = np.clip((event - times) / fall, 0, 1)
        after = np.clip((times - event) / rise, 0, 1)
        pose = np.minimum(pose, 1 - (1 - np.where(times < event, before, after)) ** 2)
    return pose


def change_pose(times: np.ndarray, events: np.ndarray, seconds: float) -> np.ndarray:
    """State in [0, 1] at `times` (s) of a part that goes over at each event, 1 before the first."""
    pose = np.ones_like(times)
    for i, event in enumerate(events):
        share = np.clip((times - event) / seconds + 0.5, 0, 1)
        pose -= (-1) ** i * share**2 * (3 - 2 * share)
    return pose


def impact_flash(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Strength in [0, 1] at `times` (s) of the flash that each contact leaves and that fades."""
    since = times[:, None] - events
    last = np.where(since > -1e-9, since, np.inf).min(axis=1, initial=np.inf)
    return np.clip(1 - last / _FLASH_SECONDS, 0, 1)


def make_clip(
    seed: int,
    height: int = 64,
    width: int = 96,
    kind: str | None = None,
    events: np.ndarray | None = None,
    seconds: float = SECONDS,
    recordings: Recordings | None = None,
) -> WorldClip:
    """The clip of `seed`; `kind` and `events` (s) override what the seed would draw.

    Another length is another clip, with as many events for each two seconds. With `recordings` it
    is the same clip with another sound, of which most are recorded.

    Raises:
        ValueError: `seconds` is shorter than a clip of two seconds.
    """
    if seconds < SECONDS:
        raise ValueError(f"a clip of the world takes {SECONDS:g} s or more, not {seconds:g} s")
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn_name = str(rng.choice(list(KINDS)))
    name = kind or drawn_name
    drawn_events = draw_events(rng, KINDS[name], seconds)
    events = drawn_events if events is None else np.asarray(events, dtype=np.float64)
    # Picture and sound are drawn apart, so that other events leave the picture as it is.
    picture_rng, sound_rng, recorded_rng = rng.spawn(3)
    num_frames, num_samples = round(seconds * FPS), round(seconds * SAMPLE_RATE)
    frames, pose = _draw(KINDS[name], events, (num_frames, height, width), picture_rng)
    sound = KINDS[name].sound
    if recordings:
        sound_rng = recorded_rng
        if sound_rng.random() < KINDS[name].recorded_share:
            sound = partial(KINDS[name].recorded, recordings)
    waveform = sounds.record(sound, events, num_samples, SAMPLE_RATE, sound_rng, recordings)
    return WorldClip(name, frames, waveform, events, pose)


def _draw(
    kind: Kind, events: np.ndarray, size: tuple[int, int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (F, H, W, 3) uint8 and pose (F,) float32, for the size F, H, W."""
    num_frames, height, width = size
    times = np.arange(num_frames) / FPS
    seconds, slower = rng.uniform(*kind.seconds), rng.uniform(1.4, 1.7)
    if kind.event == "contact":
        pose, flash = (
            contact_pose(times, events, seconds, slower * seconds),
            impact_flash(times, events),
        )
    else:
        pose = change_pose(times, events, seconds)
        flash = np.zeros_like(times)
    parts = []
    for start in range(0, num_frames, NUM_FRAMES):  # two seconds at a time, which bounds memory
        part, same = slice(start, start + NUM_FRAMES), deepcopy(rng)  # of each part the same scene
        canvas = Canvas(height, width, Camera.draw(same))
        kind.draw(scenes.Scene(canvas, pose[part], flash[part], draw_palette(same)), same)
        parts.append(canvas.frames(len(pose[part])))
    return np.concatenate(parts), pose.astype(np.float32)
