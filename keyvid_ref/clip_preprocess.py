"""Image preprocessing of CLIP as the release does it: Gaussian blur, bicubic resize, normalise."""

import torch
from torch import Tensor
from torch.nn import functional

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_preprocess(image: Tensor, size: int) -> Tensor:
    """Pixels that CLIP's image encoder sees.

    Args:
        image: (N, 3, H, W) float32 in [-1, 1], any aspect ratio: it is squeezed, not cropped.
        size: S, side of the encoder's input.
    Returns:
        (N, 3, S, S) float32, normalised; bicubic overshoot is not clipped.
    """
    factors = (image.shape[2] / size, image.shape[3] / size)
    if max(factors) > 1:
        image = _blur(image, _antialias_kernel(factors[0]).to(image)[:, None])
        image = _blur(image, _antialias_kernel(factors[1]).to(image)[None, :])
    resized = functional.interpolate(image, (size, size), mode="bicubic", align_corners=True)
    mean, std = image.new_tensor(_MEAN), image.new_tensor(_STD)
    return ((resized + 1) / 2 - mean[:, None, None]) / std[:, None, None]


def _antialias_kernel(factor: float) -> Tensor:
    """Normalised float64 Gaussian of odd length for an axis that shrinks by `factor`."""
    sigma = max((factor - 1) / 2, 0.001)  # an axis that grows is left as it is
    reach = int(max(4 * sigma, 3)) // 2
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = torch.exp(-(offset**2) / (2 * sigma**2))
    return taps / taps.sum()


def _blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every channel with `kernel` (kh, kw), edges reflected."""
    height, width = kernel.shape
    padding = (width // 2, width // 2, height // 2, height // 2)
    padded = functional.pad(image, padding, mode="reflect")
    channels = image.shape[1]
    return functional.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)
