"""Drawing for the synthetic world: antialiased shapes from signed distances, all frames at once.

Lengths are in units of the image height, x to the right, y down. A place, size or angle is one
value for the whole clip or one per frame.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Palette:
    """Colours of a scene, each RGB in [0, 1]."""

    sky: Colour
    ground: Colour
    first: Colour
    second: Colour
    third: Colour


def draw_palette(rng: np.random.Generator) -> Palette:
    """Random colours; the objects' stand out from the background and from one another.

    The first, of what moves, also differs in brightness from the background, the second from it.
    """
    sky = _colour(rng, rng.uniform(0.0, 0.35), rng.uniform(0.5, 0.95))
    ground = _colour(rng, rng.uniform(0.1, 0.45), rng.uniform(0.3, 0.7))
    chosen: list[Colour] = [sky, ground]
    while len(chosen) < 5:
        colour = _colour(rng, rng.uniform(0.3, 1.0), rng.uniform(0.1, 1.0))
        distance = min(float(np.abs(np.subtract(colour, other)).sum()) for other in chosen)
        behind = {2: chosen[:2], 3: chosen[2:]}.get(len(chosen), [])
        contrasts = [abs(_brightness(colour) - _brightness(other)) for other in behind]
        if distance > 0.55 and min(contrasts, default=1) > 0.18:
            chosen.append(colour)
    return Palette(*chosen)


def _brightness(colour: Colour) -> float:
    """Luma of an RGB colour (ITU-R BT.601)."""
    return float(np.dot(colour, (0.299, 0.587, 0.114)))


def _colour(rng: np.random.Generator, saturation: float, value: float) -> Colour:
    """A random hue at the given saturation and value (HSV)."""
    offsets = np.array([5.0, 3.0, 1.0])
    k = (offsets + 6 * rng.random()) % 6
    red, green, blue = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    return float(red), float(green), float(blue)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour in the first."""
    red, green, blue = (a + share * (b - a) for a, b in zip(first, second, strict=True))
    return red, green, blue


@dataclass(frozen=True)
class Camera:
    """How a scene is seen: magnified, turned (radians), moved (heights), perhaps mirrored."""

    zoom: float
    roll: float
    shift: tuple[float, float]
    mirrored: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Camera":
        """A random camera that keeps the middle of the scene in view."""
        zoom, roll = rng.uniform(0.92, 1.12), rng.uniform(-0.07, 0.07)
        x, y = rng.uniform(-0.03, 0.03, 2)
        return cls(zoom, roll, (x, y), bool(rng.random() < 0.5))


class Canvas:
    """The frames of one clip; each shape is painted over what is there."""

    def __init__(self, height: int, width: int, camera: Camera) -> None:
        self.aspect = width / height
        self._mirrored = camera.mirrored
        self._pixels_per_unit = height * camera.zoom
        y, x = np.mgrid[:height, :width].astype(np.float32)
        x = ((x + 0.5) / height - self.aspect / 2) / camera.zoom
        y = ((y + 0.5) / height - 0.5) / camera.zoom
        cos, sin = np.float32(np.cos(camera.roll)), np.float32(np.sin(camera.roll))
        self._x = cos * x + sin * y + np.float32(self.aspect / 2 + camera.shift[0])  # (H, W)
        self._y = cos * y - sin * x + np.float32(0.5 + camera.shift[1])
        # One frame until something is painted that moves.
        self._pixels = np.zeros((1, height, width, 3), dtype=np.float32)

    def frames(self, num_frames: int) -> np.ndarray:
        """(F, H, W, 3) uint8."""
        pixels = self._pixels[:, :, ::-1] if self._mirrored else self._pixels
        pixels = np.broadcast_to(pixels, (num_frames, *pixels.shape[1:]))
        return np.ascontiguousarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))

    def background(self, palette: Palette, rng: np.random.Generator, horizon: float) -> None:
        """A wall and a ground with soft textures, a gradient of light and things on the wall."""
        light = 1 + rng.uniform(-0.15, 0.15) * (self._y - 0.5) * 2
        wall = np.asarray(palette.sky) * (light + self._texture(rng))[..., None]
        ground = np.asarray(palette.ground) * (light + self._texture(rng))[..., None]
        self._pixels[:] = wall
        for _ in range(rng.integers(3)):
            place = (self.aspect * rng.uniform(0, 1), rng.uniform(0, horizon))
            size = (rng.uniform(0.05, 0.25), rng.uniform(0.05, 0.25))
            colour = _mix(palette.sky, palette.ground, rng.uniform(0.25, 0.7))
            if rng.random() < 0.5:
                self.box(place, size, 0.02, colour)
            else:
                self.ellipse(place, size, colour)
        below = self._coverage(horizon - self._y)[..., None]
        self._pixels += below * (ground - self._pixels)

    def _texture(self, rng: np.random.Generator) -> np.ndarray:
        """(H, W) zero-mean relief: a few waves of random direction, smooth or with edges."""
        relief = np.zeros_like(self._x)
        for _ in range(3):
            angle, frequency = rng.uniform(0, np.pi), rng.uniform(4, 22)
            phase = frequency * (np.cos(angle) * self._x + np.sin(angle) * self._y)
            sharpness = rng.uniform(1, 3)
            wave = np.sin(phase + rng.uniform(0, 2 * np.pi))
            relief += rng.uniform(0, 0.05) * np.clip(sharpness * wave, -1, 1)
        return relief

    def box(
        self,
        centre: npt.ArrayLike,
        half_size: tuple[float, float],
        radius: float,
        colour: Colour,
        angle: npt.ArrayLike = 0.0,
    ) -> None:
        """A rounded box, turned by `angle` radians (clockwise on the screen)."""
        dx, dy = self._offset(centre)
        cos, sin = _per_frame(np.cos(angle)), _per_frame(np.sin(angle))
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        qx = np.abs(along) - (half_size[0] - radius)
        qy = np.abs(across) - (half_size[1] - radius)
        outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
        self._paint(outside + np.minimum(np.maximum(qx, qy), 0) - radius, colour)

    def capsule(
        self, start: npt.ArrayLike, end: npt.ArrayLike, radius: float, colour: Colour
    ) -> None:
        """A line of the given half width with round ends."""
        dx, dy = self._offset(start)
        step = np.asarray(end, dtype=np.float32) - np.asarray(start, dtype=np.float32)
        sx, sy = _per_frame(step[..., 0]), _per_frame(step[..., 1])
        share = np.clip((dx * sx + dy * sy) / (sx * sx + sy * sy), 0, 1)
        self._paint(np.hypot(dx - share * sx, dy - share * sy) - radius, colour)

    def ellipse(
        self,
        centre: npt.ArrayLike,
        radii: npt.ArrayLike,
        colour: Colour,
        opacity: npt.ArrayLike = 1.0,
    ) -> None:
        """An ellipse with the given half axes, see-through where `opacity` is below 1."""
        dx, dy = self._offset(centre)
        radii = np.asarray(radii, dtype=np.float32)
        rx, ry = _per_frame(radii[..., 0]), _per_frame(radii[..., 1])
        self._paint((np.hypot(dx / rx, dy / ry) - 1) * np.minimum(rx, ry), colour, opacity)

    def _offset(self, centre: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        centre = np.asarray(centre, dtype=np.float32)
        return self._x - _per_frame(centre[..., 0]), self._y - _per_frame(centre[..., 1])

    def _coverage(self, distance: np.ndarray) -> np.ndarray:
        """Share of each pixel that lies inside, from the signed distance of its centre."""
        return np.clip(0.5 - distance * self._pixels_per_unit, 0, 1)

    def _paint(self, distance: np.ndarray, colour: Colour, opacity: npt.ArrayLike = 1.0) -> None:
        cover = (self._coverage(distance) * _per_frame(opacity))[..., None]  # (F or 1, H, W, 1)
        if len(cover) > len(self._pixels):
            self._pixels = np.repeat(self._pixels, len(cover), axis=0)
        self._pixels += cover * (np.asarray(colour, dtype=np.float32) - self._pixels)


def _per_frame(values: npt.ArrayLike) -> np.ndarray:
    """Scalar or (F,) values to a shape that broadcasts over (F, H, W)."""
    return np.asarray(values, dtype=np.float32).reshape(-1, 1, 1)
