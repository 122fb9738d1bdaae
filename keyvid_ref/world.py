"""A synthetic world to learn from: small scenes whose objects strike when the sound does.

A clip is two seconds: 48 frames at 24 fps and 16 kHz mono sound, both made from one list of event
times. Objects, colours, places, backgrounds and timbres are drawn from the clip's seed; motion
anticipates each event, so that sound and picture meet at the contact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keyvid_ref.world_drawing import Canvas, Palette, draw_palette
from keyvid_ref.world_sound import strike_sound

NUM_FRAMES = 48
FPS = 24
SAMPLE_RATE = 16000
SECONDS = NUM_FRAMES / FPS
_FIRST_EVENT, _LAST_EVENT, _MIN_GAP = 0.25, 1.9, 0.2
_MAX_EVENTS = 6
_FLASH_SECONDS = 0.0625  # one and a half frames to either side of a contact

# Seeds are split once and for all: what is trained on is never measured on.
TRAIN_SEEDS = range(1_000_000, 2_000_000)
VALIDATION_SEEDS = range(10_000)
TEST_SEEDS = range(10_000, 20_000)


@dataclass(frozen=True)
class WorldClip:
    """One clip of the world and what is known about it.

    frames: (48, H, W, 3) uint8; waveform: (32000,) float32 in [-1, 1]; events: (n,) seconds;
    pose: (48,) height of the striking part above its contact, 0 (touching) to 1 (raised).
    """

    kind: str
    frames: np.ndarray
    waveform: np.ndarray
    events: np.ndarray
    pose: np.ndarray

    @property
    def motion(self) -> np.ndarray:
        """(48,) mean absolute frame difference, centred, at most 1; zeros if nothing moves."""
        steps = np.abs(np.diff(self.frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
        curve = (np.append(steps, steps[-1]) + np.insert(steps, 0, steps[0])) / 2
        return (curve / max(curve.max(), 1e-6)).astype(np.float32)


@dataclass(frozen=True)
class Scene:
    """What a kind of scene is drawn from; pose and flash are (48,) in [0, 1]."""

    canvas: Canvas
    pose: np.ndarray
    flash: np.ndarray
    palette: Palette

    def draw_flash(self, x: float, y: float, size: float) -> None:
        """A flat glow around the contact at (x, y)."""
        reach = size * (0.5 + 0.5 * self.flash)
        radii = np.stack([reach, 0.45 * reach], axis=-1)
        self.canvas.ellipse((x, y), radii, self.palette.third, opacity=self.flash)


def draw_events(rng: np.random.Generator) -> np.ndarray:
    """0 to 6 ascending event times in seconds, at least 0.2 s apart."""
    count = int(rng.choice(_MAX_EVENTS + 1, p=[0.08, 0.14, 0.2, 0.2, 0.16, 0.12, 0.1]))
    slack = _LAST_EVENT - _FIRST_EVENT - _MIN_GAP * max(count - 1, 0)
    return _FIRST_EVENT + np.sort(rng.uniform(0, slack, count)) + _MIN_GAP * np.arange(count)


def strike_pose(times: np.ndarray, events: np.ndarray, fall: float, rise: float) -> np.ndarray:
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


def impact_flash(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Strength in [0, 1] at `times` (s) of the flash around each contact, 1 at the event."""
    distance = np.abs(times[:, None] - events).min(axis=1, initial=np.inf)
    return np.clip(1 - distance / _FLASH_SECONDS, 0, 1)


def make_clip(
    seed: int,
    height: int = 64,
    width: int = 96,
    kind: str | None = None,
    events: np.ndarray | None = None,
) -> WorldClip:
    """The clip of `seed`; `kind` and `events` (s) override what the seed would draw."""
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn_kind = str(rng.choice(list(KINDS)))
    drawn_events = draw_events(rng)
    kind = kind or drawn_kind
    events = drawn_events if events is None else np.asarray(events, dtype=np.float64)
    times = np.arange(NUM_FRAMES) / FPS
    pose = strike_pose(times, events, fall=rng.uniform(0.17, 0.21), rise=rng.uniform(0.15, 0.19))
    canvas = Canvas(height, width, NUM_FRAMES, mirrored=bool(rng.random() < 0.5))
    scene = Scene(canvas, pose, impact_flash(times, events), draw_palette(rng))
    KINDS[kind](scene, rng)
    waveform = strike_sound(kind, events, int(SECONDS * SAMPLE_RATE), SAMPLE_RATE, rng)
    return WorldClip(kind, canvas.frames(), waveform, events, pose.astype(np.float32))


def _draw_hammer(scene: Scene, rng: np.random.Generator) -> None:
    """A hammer that swings about the end of its handle and lands on an anvil."""
    canvas, palette = scene.canvas, scene.palette
    aspect = canvas.width / canvas.height
    size = rng.uniform(0.85, 1.1)
    top = rng.uniform(0.6, 0.68)
    anvil_x = aspect * rng.uniform(0.3, 0.42)
    half = 0.2 * size
    canvas.background(palette, rng, horizon=rng.uniform(0.78, 0.88))
    canvas.box((anvil_x, top + 0.05 * size), (half, 0.055 * size), 0.02, palette.second)
    canvas.box((anvil_x, top + 0.17 * size), (0.09 * size, 0.1 * size), 0.01, palette.second)
    canvas.box((anvil_x, top + 0.27 * size), (0.16 * size, 0.04 * size), 0.02, palette.second)

    scene.draw_flash(anvil_x, top, 0.3 * size)
    length = 0.62 * size
    head = np.array([0.075, 0.125]) * size
    pivot = np.array([anvil_x + length, top - head[1]])
    raised = rng.uniform(0.6, 0.75)  # radians above the contact
    angle = raised * scene.pose
    direction = np.stack([-np.cos(angle), -np.sin(angle)], axis=-1)  # (F, 2)
    centre = pivot + length * direction
    canvas.capsule(pivot + 0 * centre, centre, 0.035 * size, palette.third)
    canvas.box(centre, tuple(head), 0.02, palette.first, angle=angle)


def _draw_ball(scene: Scene, rng: np.random.Generator) -> None:
    """A ball that falls to the floor and is caught in the air, with its shadow."""
    canvas, palette, pose = scene.canvas, scene.palette, scene.pose
    aspect = canvas.width / canvas.height
    radius = rng.uniform(0.11, 0.16)
    floor = rng.uniform(0.78, 0.9)
    x = aspect * rng.uniform(0.25, 0.75)
    drop = floor - 2 * radius - rng.uniform(0.06, 0.16)
    canvas.background(palette, rng, horizon=floor - 0.06)
    red, green, blue = palette.ground
    shade = (0.45 * red, 0.45 * green, 0.45 * blue)
    spread = radius * (1.1 - 0.45 * pose)
    shadow_y = np.full_like(pose, floor + 0.01)
    shadow_x = np.full_like(pose, x)
    canvas.ellipse(np.stack([shadow_x, shadow_y], -1), np.stack([spread, 0.3 * spread], -1), shade)
    scene.draw_flash(x, floor, 2.0 * radius)
    squash = 1 - 0.22 * np.clip(1 - pose / 0.12, 0, 1)
    centre = np.stack([shadow_x, floor - radius * squash - drop * pose], axis=-1)
    radii = np.stack([radius / np.sqrt(squash), radius * squash], axis=-1)
    canvas.ellipse(centre, radii, palette.first)
    canvas.ellipse(centre - 0.3 * radius, 0.35 * radii, palette.second)


def _draw_drum(scene: Scene, rng: np.random.Generator) -> None:
    """A drumstick that swings about a hand and strikes the skin of a drum."""
    canvas, palette = scene.canvas, scene.palette
    aspect = canvas.width / canvas.height
    size = rng.uniform(0.85, 1.1)
    top = rng.uniform(0.58, 0.66)
    x = aspect * rng.uniform(0.32, 0.45)
    half, depth = 0.27 * size, 0.24 * size
    canvas.background(palette, rng, horizon=rng.uniform(0.75, 0.85))
    canvas.box((x, top + depth / 2), (half, depth / 2), 0.03, palette.second)
    canvas.box((x, top + 0.07 * size), (half * 1.04, 0.025 * size), 0.01, palette.third)
    canvas.box((x, top + depth - 0.02), (half * 1.04, 0.025 * size), 0.01, palette.third)
    canvas.ellipse((x, top), (half, 0.06 * size), (0.93, 0.9, 0.84))

    scene.draw_flash(x, top, 0.34 * size)
    length = 0.66 * size
    thickness = 0.038 * size
    reach = rng.uniform(0.0, 0.08)
    tip_at_contact = np.array([x + reach, top - thickness])
    tilt = rng.uniform(0.15, 0.35)  # radians, the stick's slope at the contact
    pivot = tip_at_contact + length * np.array([np.cos(tilt), -np.sin(tilt)])
    angle = -tilt + rng.uniform(0.6, 0.75) * scene.pose
    tip = pivot + length * np.stack([-np.cos(angle), -np.sin(angle)], axis=-1)
    canvas.capsule(pivot + 0 * tip, tip, thickness, palette.first)
    canvas.ellipse(tip, (0.062 * size, 0.062 * size), palette.first)
    canvas.ellipse(pivot, (0.075 * size, 0.075 * size), palette.third)


KINDS: dict[str, Callable[[Scene, np.random.Generator], None]] = {
    "hammer": _draw_hammer,
    "ball": _draw_ball,
    "drum": _draw_drum,
}
