"""Contact sheets: clips of a run beside the true ones."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.quality.examples import SPLITS, Task, make_example
from bench.quality.generate import clip_file, read_frames
from keyvid.runtime.media.outputs import write_atomic
from keyvid.score.film import Film
from keyvid_ref.world import world

_STRIDE = 3  # frames from one shown to the next
_LABEL, _GAP, _MARGIN = 22, 4, 12
_LEAST_WIDTH = 96  # of a frame, pixels: smaller ones are enlarged
_INK, _PAPER = "#22303c", "#ffffff"


def default_seeds(split: str, num_per_kind: int = 1) -> list[int]:
    """The first seeds of a split with events, so many of each kind."""
    left = dict.fromkeys(world.KINDS, num_per_kind)
    chosen = []
    for seed in SPLITS[split]:
        if not any(left.values()):
            break
        clip = world.make_clip(seed)
        if len(clip.events) and left[clip.kind]:
            left[clip.kind] -= 1
            chosen.append(seed)
    return chosen


def write_sheet(path: Path, folder: Path, seeds: Sequence[int]) -> None:
    """Write a JPEG of the clips of `seeds` in a folder of results, the true ones above.

    Raises:
        MediaError: the folder does not hold one of them.
    """
    strips = [_strip(*_read(folder, seed)) for seed in seeds]
    width = max(strip.width for strip in strips)
    height = sum(strip.height + _MARGIN for strip in strips)
    page = Image.new("RGB", (width + 2 * _MARGIN, height + _MARGIN), _PAPER)
    y = _MARGIN
    for strip in strips:
        page.paste(strip, (_MARGIN, y))
        y += strip.height + _MARGIN
    content = io.BytesIO()
    page.save(content, "JPEG", quality=90)
    write_atomic(path, content.getvalue())


def _read(folder: Path, seed: int) -> tuple[Film, np.ndarray]:
    """The true clip and the frames of the generated one, of the same size."""
    frames = read_frames(clip_file(folder, Task(seed)))
    return make_example(Task(seed), *frames.shape[1:3]).truth, frames


def _strip(truth: Film, frames: np.ndarray) -> Image.Image:
    """Every third frame: truth above, generated below, events over them."""
    shown = np.arange(0, len(frames), _STRIDE)
    height, width = frames.shape[1:3]
    scale = -(-_LEAST_WIDTH // width)
    height, width = scale * height, scale * width
    size = (len(shown) * (width + _GAP), _LABEL + 2 * height + _GAP)
    strip = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(strip)
    events = ", ".join(f"{event:.2f}" for event in truth.events)
    title = f"{truth.name} {truth.kind}, every {_STRIDE}rd frame, truth above; events at {events} s"
    pen.text((0, 2), title, _INK, ImageFont.load_default(14))
    for column, frame in enumerate(shown):
        for row, pixels in enumerate((truth.frames[frame], frames[frame])):
            image = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            strip.paste(image, (column * (width + _GAP), _LABEL + row * (height + _GAP)))
    return strip
