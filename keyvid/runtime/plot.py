"""A clip on one page: what was heard, how much should move, what was drawn."""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from keyvid.runtime.clip import Clip
from keyvid.runtime.media.outputs import write_atomic

_WIDTH = 1200
_MARGIN = 28
_AXIS_LEFT = 64  # room for the numbers of the vertical axes
_MOST_CELLS = 360  # in a contact sheet: 30 rows
_SMOOTH = 3  # curves are drawn this much larger and shrunk: Pillow's lines have no antialiasing
_INK, _GREY, _GRID, _PAPER = "#22303c", "#6b7780", "#e3e7ea", "#ffffff"
_WAVE, _MOTION, _MOTION_FILL, _KEYFRAME = "#7d93a8", "#1f5f8b", "#d5e4ee", "#d1495b"


def write_plot(path: Path, clip: Clip, title: str) -> None:
    """Write `draw_plot` as a PNG, whole or not at all.

    Raises:
        MediaError: the file cannot be written there.
    """
    content = io.BytesIO()
    draw_plot(clip, title).save(content, "PNG")
    write_atomic(path, content.getvalue())


def draw_plot(clip: Clip, title: str) -> Image.Image:
    """Waveform and motion curve over one time axis, keyframes marked, above all the frames.

    Returns:
        RGB, 1200 pixels wide.
    """
    sheet = contact_sheet(clip.frames, clip.keyframes, clip.fps, width=_WIDTH - 2 * _MARGIN)
    wave = _Panel(top=74, height=110, low=-1.0, high=1.0)
    motion = _Panel(
        top=230,
        height=130,
        low=min(0.0, float(clip.motion.min())),
        high=max(float(clip.motion.max()), 1e-6),
    )
    sheet_top = motion.bottom + 74
    page = Image.new("RGB", (_WIDTH, sheet_top + sheet.height + _MARGIN), _PAPER)
    duration = len(clip.frames) / clip.fps
    times = clip.keyframes / clip.fps
    page.paste(
        _draw_wave(wave, clip.sound.samples.mean(axis=1), times / duration), (_AXIS_LEFT, wave.top)
    )
    page.paste(_draw_motion(motion, clip.motion, clip.keyframes), (_AXIS_LEFT, motion.top))
    page.paste(sheet, (_MARGIN, sheet_top))

    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, 16), title, _INK, _font(20))
    pen.text((_AXIS_LEFT, wave.top - 22), "Sound", _INK, _font(14))
    pen.text((_AXIS_LEFT, motion.top - 22), "Motion score", _INK, _font(14))
    marked = f"{len(clip.keyframes)} keyframes"
    pen.text((_WIDTH - _MARGIN, motion.top - 22), marked, _KEYFRAME, _font(14), anchor="ra")
    for panel, numbers in ((wave, (-1, 0, 1)), (motion, (motion.low, motion.high))):
        for value in numbers:
            at = (_AXIS_LEFT - 8, panel.top + panel.y(value))
            pen.text(at, f"{value:.2g}", _GREY, _font(12), anchor="rm")
    for second in _ticks(duration):
        x = _AXIS_LEFT + _Panel.width * second / duration
        pen.line((x, motion.bottom, x, motion.bottom + 4), _GREY)
        pen.text((x, motion.bottom + 7), f"{second:g} s", _GREY, _font(12), anchor="ma")
    pen.text((_MARGIN, sheet_top - 24), "Frames: number, time", _INK, _font(14))
    return page


def _ticks(duration: float) -> list[float]:
    """Round times from 0 to `duration` seconds, 16 at most: as many as numbers fit."""
    steps = (unit * 10**power for power in range(9) for unit in (0.25, 0.5, 1.0))
    step = next(step for step in steps if duration / step < 16)
    return [number * step for number in range(int(duration / step) + 1)]


def contact_sheet(
    frames: npt.NDArray[np.uint8],
    keyframes: Sequence[int] | npt.NDArray[np.int64] = (),
    fps: int = 24,
    *,
    columns: int = 12,
    width: int = 1144,
) -> Image.Image:
    """The frames of a clip in rows, each with its number and time, the keyframes framed.

    Args:
        frames: (F, H, W, 3) uint8; of more than 360 every second one is shown, or every third and
            so on, and of those that are skipped a keyframe stands in.
        keyframes: indices of the frames to mark.
        width: of the sheet, pixels.
    """
    gap, label, border = 10, 17, 3
    cell_width = (width - 2 * border - gap * (columns - 1)) // columns
    cell_height = round(cell_width * frames.shape[1] / frames.shape[2])
    chosen = {int(index) for index in keyframes}
    shown = _shown(len(frames), chosen)
    rows = -(-len(shown) // columns)
    row_height = cell_height + label + gap
    sheet = Image.new("RGB", (width, rows * row_height + border), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for cell, index in enumerate(shown):
        x = border + cell % columns * (cell_width + gap)
        y = border + cell // columns * row_height
        right, below = x + cell_width, y + cell_height
        frame = Image.fromarray(frames[index])
        sheet.paste(frame.resize((cell_width, cell_height), Image.Resampling.LANCZOS), (x, y))
        colour = _KEYFRAME if index in chosen else _GREY
        if index in chosen:
            frame_box = (x - border, y - border, right + border - 1, below + border - 1)
            pen.rectangle(frame_box, outline=_KEYFRAME, width=border)
        pen.text((x, below + 3), str(index), colour, _font(12))
        pen.text((right, below + 3), f"{index / fps:.2f} s", colour, _font(12), anchor="ra")
    return sheet


def _shown(num_frames: int, keyframes: set[int]) -> list[int]:
    """Frames for a sheet: all, or one of each few that follow one another, a keyframe if any."""
    stride = -(-num_frames // _MOST_CELLS)
    spans = (range(i, min(i + stride, num_frames)) for i in range(0, num_frames, stride))
    return [min(span, key=lambda index: (index not in keyframes, index)) for span in spans]


@dataclass(frozen=True)
class _Panel:
    """Where one curve stands, pixels, and the values at its lower and upper edge."""

    top: int
    height: int
    low: float
    high: float
    width = _WIDTH - _AXIS_LEFT - _MARGIN

    @property
    def bottom(self) -> int:
        return self.top + self.height

    def y(self, value: float) -> float:
        """Distance from the upper edge, pixels."""
        inset = 4  # so that the extremes are not cut
        share = (self.high - value) / (self.high - self.low)
        return inset + share * (self.height - 2 * inset)

    def canvas(self, marks: npt.NDArray[np.float64]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """An enlarged empty panel with a line at each mark (share of the width)."""
        size = (self.width * _SMOOTH, self.height * _SMOOTH)
        image = Image.new("RGB", size, _PAPER)
        pen = ImageDraw.Draw(image)
        for mark in marks:
            x = float(mark) * size[0]
            pen.line((x, 0, x, size[1]), "#efc4ca", width=_SMOOTH)
        pen.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=_GRID, width=_SMOOTH)
        return image, pen


def _draw_wave(
    panel: _Panel, audio: npt.NDArray[np.float32], marks: npt.NDArray[np.float64]
) -> Image.Image:
    image, pen = panel.canvas(marks)
    edges = np.arange(image.width + 1) * len(audio) // image.width  # array_split bends the axis
    for x, (first, last) in enumerate(itertools.pairwise(edges)):
        part = audio[first : max(last, first + 1)].clip(-1.0, 1.0)  # a low rate has fewer samples
        high, low = panel.y(float(part.max())), panel.y(float(part.min()))
        pen.line((x, high * _SMOOTH - 1, x, low * _SMOOTH + 1), _WAVE)
    return image.reduce(_SMOOTH)


def _draw_motion(
    panel: _Panel, motion: npt.NDArray[np.float32], keyframes: npt.NDArray[np.int64]
) -> Image.Image:
    image, pen = panel.canvas(keyframes / len(motion))
    points = [
        (index / len(motion) * image.width, panel.y(float(score)) * _SMOOTH)
        for index, score in enumerate(motion)
    ]
    base = panel.y(0.0) * _SMOOTH
    pen.polygon([(points[0][0], base), *points, (points[-1][0], base)], _MOTION_FILL)
    pen.line(points, _MOTION, width=2 * _SMOOTH, joint="curve")
    radius = 4.5 * _SMOOTH
    for index in keyframes:
        x, y = points[index]
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), _KEYFRAME)
    return image.reduce(_SMOOTH)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
