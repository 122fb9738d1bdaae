"""Noise, all of it from one seeded generator outside the networks."""

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


def seeded(seed: int) -> np.random.Generator:
    """The generator that all noise of a clip comes from, in the order in which it is needed."""
    return np.random.Generator(np.random.PCG64(seed))


def standard_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Standard normal float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def window_noise(
    shape: tuple[int, ...], window: int, stride: int, rng: np.random.Generator
) -> np.ndarray:
    """The first window's noise, repeated with local shuffling (FreeNoise, section 3.2).

    Every later block of `stride` frames holds the frames of the block one window earlier in a
    random order, so that each window sees the same noise frames and each frame stays standard
    normal.

    Args:
        shape: (1, C, F, H, W), F a multiple of `stride`.
        window: frames per window, a multiple of `stride`.
    Returns:
        float32 of `shape`.
    """
    batch, channels, frames, height, width = shape
    noise = np.empty(shape, np.float32)
    noise[:, :, :window] = standard_noise((batch, channels, window, height, width), rng)
    for start in range(window, frames, stride):
        source = start - window + rng.permutation(stride)
        noise[:, :, start : start + stride] = noise[:, :, source]
    return noise
