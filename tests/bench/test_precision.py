"""What bench/precision.py says of two clips."""

from types import SimpleNamespace

import numpy as np
import pytest
from precision import format_difference, psnr


def clip(frames, keyframes=(0, 3)):
    return SimpleNamespace(frames=frames, keyframes=np.array(keyframes))


def test_psnr():
    zeros, ones = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4, 3), np.uint8)
    assert psnr(zeros, zeros) == float("inf")
    assert psnr(ones, zeros) == pytest.approx(48.13, abs=0.01)  # 20 log10 255
    assert psnr(zeros, zeros + np.uint8(255)) == 0  # no wrap-around


def test_line_of_a_clip():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    other = frames.copy()
    other[1] = 200
    line = format_difference(clip(frames), clip(other, (0, 4)))
    assert line.split() == ["5.1", "dB", "2.1", "dB", "200", "differ"]
    assert format_difference(clip(frames), clip(frames)).endswith("same")
