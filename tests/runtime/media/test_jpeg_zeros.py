"""Zeros amid the pixels of a JPEG: damage, or an area without detail."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from keyvid.errors import MediaError
from keyvid.runtime.media.picture import load_image

Pixels = npt.NDArray[np.uint8]


def scene() -> Pixels:
    rows, columns = np.mgrid[:240, :320]
    noise = np.random.default_rng(0).normal(0, 8, (240, 320))
    planes = [columns / 3 + noise, rows / 2 + noise, (rows + columns) / 5]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def read(content: bytes) -> Pixels:
    return load_image(io.BytesIO(content), 96, 128)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}], ids=str)
def test_a_sector_of_zeros_is_refused(options: dict[str, Any]) -> None:
    whole = jpeg(scene(), **options)
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes(600) + whole[middle + 600 :]
    with pytest.raises(MediaError, match="with zeros where a part of its pixels was; give"):
        read(damaged)
    few = whole[:middle] + bytes(100) + whole[middle + 100 :]
    assert read(few).shape == (96, 128, 3), "so few could be anything"


@pytest.mark.parametrize("options", [{"optimize": True}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_flat_areas_are_zeros_too(mode: str, options: dict[str, Any]) -> None:
    flat = np.full((960, 1280, 3), 250, np.uint8)[..., slice(None) if mode == "RGB" else 0]
    content = jpeg(flat, **options)
    assert bytes(512) in content
    assert abs(int(read(content).mean()) - 250) <= 1


def test_padding_is_none_of_the_pixels() -> None:
    """As webcams write it before the end of a picture."""
    whole = jpeg(scene())
    padded = whole[:-2] + bytes(5000) + whole[-2:]
    assert np.array_equal(read(padded), read(whole))
