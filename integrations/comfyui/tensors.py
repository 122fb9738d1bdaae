"""ComfyUI's tensors as the arrays that keyvid takes."""

from typing import Any

import numpy as np


def picture_of(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 of an IMAGE: the first of (B, H, W, C) in 0 to 1; transparent parts white.

    Raises:
        ValueError: it is no IMAGE.
    """
    pixels = np.asarray(image.cpu(), np.float32)
    if pixels.ndim != 4 or pixels.shape[3] not in (3, 4) or not len(pixels):
        raise ValueError(f"image is {pixels.shape}; expected (B, H, W, 3 or 4)")
    first = pixels[0].clip(0, 1)
    if first.shape[2] == 4:
        first = first[..., :3] * first[..., 3:] + (1 - first[..., 3:])
    return (first * 255).round().astype(np.uint8)


def sound_of(audio: dict[str, Any]) -> tuple[np.ndarray, int]:
    """(n, channels) float32 and the rate of an AUDIO: the first of its waveform (B, C, T).

    Raises:
        ValueError: it is no AUDIO.
    """
    waveform = np.asarray(audio["waveform"].cpu(), np.float32)
    if waveform.ndim != 3 or not len(waveform):
        raise ValueError(f"waveform is {waveform.shape}; expected (B, C, T)")
    return np.ascontiguousarray(waveform[0].T), int(audio["sample_rate"])
