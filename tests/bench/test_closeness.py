"""How far two clips are apart, in a line."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench.quality import closeness
from bench.quality.closeness import format_difference, reference_clips
from bench.quality.picture import psnr
from keyvid.sampling import Settings, resolve
from keyvid_ref.presets import PRESETS


def clip(frames, keyframes=(0, 3)):
    return SimpleNamespace(frames=frames, keyframes=np.array(keyframes))


def test_line_of_a_clip():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    other = frames.copy()
    other[1] = 200
    line = format_difference(clip(frames), clip(other, (0, 4)))
    assert line.split() == ["5.1", "dB", "2.1", "dB", "200", "differ"]
    assert format_difference(clip(frames), clip(frames)).endswith("same")


def test_reference_rounded_and_not(monkeypatch: pytest.MonkeyPatch):
    sampling = resolve(Settings(steps=1, temporal="full"), PRESETS["tiny"].sampling)
    monkeypatch.setitem(closeness.PRESETS, "tiny", replace(PRESETS["tiny"], sampling=sampling))
    rounded, exact = reference_clips("tiny", 0, "hammer")
    # One step of a network that errs by 1e-3, so below a grey level; yet no two clips are the same.
    assert 35 < psnr(rounded.frames, exact.frames) < 130
    assert np.array_equal(rounded.keyframes, exact.keyframes)
