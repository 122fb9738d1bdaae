"""How each kind of scene of the synthetic world looks.

Lengths are in units of the image height, x to the right, y down; angles in radians.
"""

from dataclasses import dataclass

import numpy as np

from keyvid_ref.world.drawing import Canvas, Palette

_SKIN = (0.93, 0.9, 0.84)  # of a drum


@dataclass(frozen=True)
class Scene:
    """What a scene is drawn from; pose and flash are (F,) in [0, 1]."""

    canvas: Canvas
    pose: np.ndarray
    flash: np.ndarray
    palette: Palette

    def draw_flash(self, x: float, y: float, size: float) -> None:
        """A flat glow around the contact at (x, y), in the colour of what strikes."""
        reach = size * (0.5 + 0.5 * self.flash)
        radii = np.stack([reach, 0.45 * reach], axis=-1)
        self.canvas.ellipse((x, y), radii, self.palette.first, opacity=self.flash)


def draw_hammer(scene: Scene, rng: np.random.Generator) -> None:
    """A hammer that swings about the end of its handle and lands on an anvil."""
    canvas, palette = scene.canvas, scene.palette
    size = rng.uniform(0.85, 1.1)
    top = rng.uniform(0.6, 0.68)
    anvil_x = canvas.aspect * rng.uniform(0.3, 0.42)
    half = rng.uniform(0.17, 0.23) * size
    canvas.background(palette, rng, horizon=rng.uniform(0.78, 0.88))
    canvas.box((anvil_x, top + 0.05 * size), (half, 0.055 * size), 0.02, palette.second)
    canvas.box((anvil_x, top + 0.17 * size), (0.09 * size, 0.1 * size), 0.01, palette.second)
    canvas.box((anvil_x, top + 0.27 * size), (0.16 * size, 0.04 * size), 0.02, palette.second)

    scene.draw_flash(anvil_x, top, 0.36 * size)
    length = 0.62 * size
    head = np.array([rng.uniform(0.075, 0.1), rng.uniform(0.11, 0.14)]) * size
    pivot = np.array([anvil_x + length, top - head[1]])
    angle = rng.uniform(0.6, 0.75) * scene.pose
    centre = _swing(pivot, length, angle)
    canvas.capsule(pivot, centre, 0.04 * size, palette.third)
    canvas.box(centre, (head[0], head[1]), 0.02, palette.first, angle=angle)


def draw_ball(scene: Scene, rng: np.random.Generator) -> None:
    """A ball that falls to the floor and is caught in the air, with its shadow."""
    canvas, palette, pose = scene.canvas, scene.palette, scene.pose
    radius = rng.uniform(0.12, 0.17)
    floor = rng.uniform(0.78, 0.9)
    x = canvas.aspect * rng.uniform(0.25, 0.75)
    drop = floor - 2 * radius - rng.uniform(0.06, 0.14)
    canvas.background(palette, rng, horizon=floor - 0.06)
    red, green, blue = palette.ground
    shade = (0.45 * red, 0.45 * green, 0.45 * blue)
    spread = radius * (1.1 - 0.45 * pose)
    canvas.ellipse((x, floor + 0.01), np.stack([spread, 0.3 * spread], -1), shade)
    scene.draw_flash(x, floor, 2.8 * radius)
    squash = 1 - 0.22 * np.clip(1 - pose / 0.12, 0, 1)
    centre = np.stack([np.full_like(pose, x), floor - radius * squash - drop * pose], axis=-1)
    radii = np.stack([radius / np.sqrt(squash), radius * squash], axis=-1)
    canvas.ellipse(centre, radii, palette.first)
    canvas.ellipse(centre - 0.25 * radius, 0.4 * radii, palette.second)


def draw_drum(scene: Scene, rng: np.random.Generator) -> None:
    """A drumstick that swings about a hand and strikes the skin of a drum."""
    canvas, palette = scene.canvas, scene.palette
    size = rng.uniform(0.85, 1.1)
    top = rng.uniform(0.58, 0.66)
    x = canvas.aspect * rng.uniform(0.32, 0.45)
    half, depth = rng.uniform(0.24, 0.3) * size, rng.uniform(0.2, 0.27) * size
    canvas.background(palette, rng, horizon=rng.uniform(0.75, 0.85))
    canvas.box((x, top + depth / 2), (half, depth / 2), 0.03, palette.second)
    canvas.box((x, top + 0.07 * size), (half * 1.04, 0.025 * size), 0.01, palette.third)
    canvas.box((x, top + depth - 0.02), (half * 1.04, 0.025 * size), 0.01, palette.third)
    canvas.ellipse((x, top), (half, 0.06 * size), _SKIN)

    scene.draw_flash(x, top, 0.36 * size)
    length = 0.64 * size
    thickness = 0.048 * size
    tip_at_contact = np.array([x + rng.uniform(0.0, 0.08), top - thickness])
    tilt = rng.uniform(0.15, 0.35)  # the stick's slope at the contact
    pivot = tip_at_contact + length * np.array([np.cos(tilt), -np.sin(tilt)])
    tip = _swing(pivot, length, -tilt + rng.uniform(0.6, 0.75) * scene.pose)
    canvas.capsule(pivot, tip, thickness, palette.first)
    canvas.ellipse(tip, (0.075 * size, 0.075 * size), palette.first)
    canvas.ellipse(pivot, (0.08 * size, 0.08 * size), palette.third)


def draw_shaker(scene: Scene, rng: np.random.Generator) -> None:
    """A rattle that is swung from one side to the other about its handle's end."""
    canvas, palette = scene.canvas, scene.palette
    size = rng.uniform(0.85, 1.1)
    canvas.background(palette, rng, horizon=rng.uniform(0.6, 0.8))
    pivot = np.array([canvas.aspect * rng.uniform(0.38, 0.62), rng.uniform(0.86, 0.94)])
    length = 0.54 * size
    lean = rng.uniform(0.4, 0.55) * (2 * scene.pose - 1)
    centre = _swing(pivot, length, np.pi / 2 - lean)
    canvas.capsule(pivot, centre, 0.05 * size, palette.second)
    body = np.array([rng.uniform(0.12, 0.15), rng.uniform(0.16, 0.19)]) * size
    canvas.box(centre, (body[0], body[1]), 0.95 * float(body[0]), palette.first, angle=-lean)
    canvas.box(centre, (body[0], 0.035 * size), 0.01, palette.third, angle=-lean)


def draw_mouth(scene: Scene, rng: np.random.Generator) -> None:
    """A face whose mouth is open while it is heard."""
    canvas, palette = scene.canvas, scene.palette
    size = rng.uniform(0.9, 1.1)
    canvas.background(palette, rng, horizon=rng.uniform(0.65, 0.9))
    x, y = canvas.aspect * rng.uniform(0.36, 0.64), rng.uniform(0.47, 0.53)
    canvas.ellipse((x, y), (rng.uniform(0.34, 0.4) * size, 0.42 * size), palette.first)
    apart, eye = rng.uniform(0.13, 0.17) * size, rng.uniform(0.045, 0.06) * size
    for side in (-apart, apart):
        canvas.ellipse((x + side, y - 0.16 * size), (eye, 1.2 * eye), palette.third)
    opening = 1 - scene.pose
    half_width = rng.uniform(0.17, 0.21) * size * (1 - 0.15 * opening)
    half_height = size * (0.03 + rng.uniform(0.13, 0.17) * opening)
    canvas.ellipse(
        (x, y + 0.16 * size), np.stack([half_width, half_height], axis=-1), palette.second
    )


def draw_flower(scene: Scene, rng: np.random.Generator) -> None:
    """A flower that leans slowly from one side to the other."""
    canvas, palette = scene.canvas, scene.palette
    size = rng.uniform(0.9, 1.1)
    horizon = rng.uniform(0.75, 0.85)
    canvas.background(palette, rng, horizon)
    foot = np.array([canvas.aspect * rng.uniform(0.4, 0.6), rng.uniform(0.9, 0.97)])
    lean = rng.uniform(0.32, 0.42) * (2 * scene.pose - 1)
    head = _swing(foot, 0.56 * size, np.pi / 2 - lean)
    canvas.capsule(foot, head, 0.04 * size, palette.third)
    turn = rng.uniform(0, 2 * np.pi)
    petals = int(rng.integers(4, 7))
    radius = 0.1 * size
    for i in range(petals):
        angle = turn + 2 * np.pi * i / petals - lean
        offset = 0.11 * size * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        canvas.ellipse(head + offset, (radius, radius), palette.first)
    canvas.ellipse(head, (0.08 * size, 0.08 * size), palette.second)


def _swing(pivot: np.ndarray, length: float, angle: np.ndarray) -> np.ndarray:
    """(F, 2) end of a rod that points left at angle 0 and up at pi / 2."""
    return pivot - length * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
