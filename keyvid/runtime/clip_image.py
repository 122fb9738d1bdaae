"""From a picture to the pixels that the CLIP image encoder takes."""

import numpy as np

CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])
CUBIC_A = -0.75  # sharpness of the bicubic kernel, as in PyTorch


def clip_pixels(image: np.ndarray, size: int) -> np.ndarray:
    """Resize and normalise.

    Both the blur and the bicubic resize are linear and separable, so each axis is one matrix.

    Args:
        image: (H, W, 3) in [-1, 1].
        size: S, side of the encoder's input.
    Returns:
        (1, 3, S, S) float32, CLIP-normalised.
    """
    height, width, _ = image.shape
    rows = _resize_matrix(height, size) @ _blur_matrix(height, size)
    columns = _resize_matrix(width, size) @ _blur_matrix(width, size)
    resized = np.einsum("yh,hwc,xw->cyx", rows, image.astype(np.float64), columns, optimize=True)
    pixels = ((resized + 1) / 2 - CLIP_MEAN[:, None, None]) / CLIP_STD[:, None, None]
    return np.asarray(pixels[np.newaxis], np.float32)


def _blur_matrix(length: int, target: int) -> np.ndarray:
    """(length, length) Gaussian antialiasing blur; the identity unless the axis shrinks.

    sigma = (factor - 1) / 2, kernel 4 sigma wide, odd and at least 3, mirrored at the borders.
    """
    sigma = (length / target - 1) / 2
    if sigma <= 0:
        return np.eye(length)
    taps = int(max(4 * sigma, 3)) | 1
    offsets = np.arange(taps) - taps // 2
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    source = np.abs(np.arange(length)[:, None] + offsets)  # (length, taps)
    source = np.minimum(source, 2 * (length - 1) - source)
    return _scatter(source, np.broadcast_to(kernel / kernel.sum(), source.shape), length)


def _resize_matrix(length: int, target: int) -> np.ndarray:
    """(target, length) bicubic interpolation with aligned corners; border pixels repeat."""
    position = np.linspace(0, length - 1, target)
    first = np.floor(position).astype(np.int64)
    source = first[:, None] + np.arange(-1, 3)  # (target, 4)
    weights = _cubic(np.abs(position[:, None] - source))
    return _scatter(source.clip(0, length - 1), weights, length)


def _cubic(distance: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel for distances in 0..2."""
    x = distance
    near = (CUBIC_A + 2) * x**3 - (CUBIC_A + 3) * x**2 + 1
    far = CUBIC_A * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, far)


def _scatter(source: np.ndarray, weights: np.ndarray, length: int) -> np.ndarray:
    """(rows, length) matrix whose row i has `weights[i]` summed at the columns `source[i]`."""
    matrix = np.zeros((len(source), length))
    np.add.at(matrix, (np.arange(len(source))[:, None], source), weights)
    return matrix
