"""Noise, all of it from seeded generators outside the networks."""

import json
from numbers import Integral

import numpy as np

from keyvid.errors import SettingsError

MAX_SEED = 2**63 - 1


def check_seed(seed: int) -> int:
    """`seed`, if it is one.

    Raises:
        SettingsError: it is no whole number, or beyond `MAX_SEED`.
    """
    if not isinstance(seed, Integral) or not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"seed {seed}: want a whole number, 0 to {MAX_SEED}")
    return int(seed)


def seeded(seed: int, segment: int = 0) -> np.random.Generator:
    """The generator that the noise of a segment comes from, in the order in which it is needed.

    Each segment has its own, so that none has to be drawn to come to the next.
    """
    return np.random.Generator(np.random.PCG64([seed, segment] if segment else seed))


def pack_generator(rng: np.random.Generator) -> np.ndarray:
    """The state of a generator that `seeded` gave, as bytes: (n,) uint8."""
    return np.frombuffer(json.dumps(rng.bit_generator.state).encode(), np.uint8)


def unpack_generator(packed: np.ndarray) -> np.random.Generator:
    """A generator that goes on where the one that was packed stood."""
    rng = seeded(0)
    rng.bit_generator.state = json.loads(packed.tobytes())
    return rng


def standard_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Standard normal float32."""
    return rng.standard_normal(shape, dtype=np.float32)


class FrameNoise:
    """The noise of a clip's frames: one temporal window's, again and again (FreeNoise, 3.2).

    Every later block of `stride` frames holds the frames of the block one temporal window earlier
    in a random order, so that each window sees the same noise frames and each frame stays standard
    normal. It goes on for as long as the clip does.

    Attributes:
        first: (1, C, window, h, w) the noise frames.
        order: which of them each frame of the clip has.
    """

    def __init__(self, first: np.ndarray, stride: int, order: list[int] | None = None) -> None:
        self.first = first
        self.order = order or [*range(first.shape[2])]
        self._stride = stride

    @classmethod
    def draw(
        cls, shape: tuple[int, ...], window: int, stride: int, rng: np.random.Generator
    ) -> "FrameNoise":
        """Noise for latents of `shape` (1, C, F, h, w); `window` is a multiple of `stride`."""
        batch, channels, frames, height, width = shape
        first = standard_noise((batch, channels, window, height, width), rng)
        noise = cls(first, stride)
        noise.extend(frames, rng)
        return noise

    def extend(self, num_frames: int, rng: np.random.Generator) -> None:
        """Go on to at least `num_frames` frames."""
        window = self.first.shape[2]
        while len(self.order) < num_frames:
            block = self.order[-window:][: self._stride]
            self.order += [block[i] for i in rng.permutation(self._stride)]

    def frames(self, start: int, stop: int) -> np.ndarray:
        """(1, C, stop - start, h, w) float32 noise of these frames of the clip."""
        return self.first[:, :, self.order[start:stop]]
