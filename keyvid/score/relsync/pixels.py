"""From frames to the pixels that the judge is shown."""

import numpy as np
from PIL import Image

from keyvid.runtime.clip_image import CLIP_MEAN, CLIP_STD

_BICUBIC = Image.Resampling.BICUBIC  # antialiased, with half-pixel centres


def prepare_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Squeeze to the judge's size and normalise.

    Args:
        frames: (F, H, W, 3) uint8 RGB.
    Returns:
        (3, F, height, width) float32; bicubic overshoot is not clipped.
    """
    resized = np.stack(
        [
            [_resize(np.ascontiguousarray(channel), height, width) for channel in frame]
            for frame in frames.transpose(0, 3, 1, 2).astype(np.float32)
        ],
        axis=1,
    )
    mean, std = (value.astype(np.float32)[:, None, None, None] for value in (CLIP_MEAN, CLIP_STD))
    prepared: np.ndarray = (resized / np.float32(255) - mean) / std
    return prepared


def shrink_frames(frames: np.ndarray, size: int) -> np.ndarray:
    """(F, H, W, 3) to (F, size, size, 3) uint8, as films of that size would hold them."""
    images = [Image.fromarray(frame).resize((size, size), _BICUBIC) for frame in frames]
    return np.stack([np.asarray(image) for image in images])


def _resize(channel: np.ndarray, height: int, width: int) -> np.ndarray:
    """One channel in float32, which Pillow neither rounds nor clips."""
    return np.asarray(Image.fromarray(channel).resize((width, height), _BICUBIC))
