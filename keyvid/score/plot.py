"""Motion in clips beside their events, on one page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keyvid.score.film import Film
from keyvid.score.motion import motion_curve
from keyvid.score.results import Observation

MAX_PANELS = 12  # on a page

_COLUMNS = 2
_PANEL_WIDTH, _PANEL_HEIGHT = 600, 110
_MARGIN, _LABEL, _LEGEND = 28, 22, 84
_SMOOTH = 3  # drawn this much larger and shrunk: Pillow's lines have no antialiasing
_INK, _GREY, _GRID, _PAPER = "#22303c", "#6b7780", "#e3e7ea", "#ffffff"
_SEEN, _WANTED, _EVENT = "#1f5f8b", "#c9d2d9", "#d1495b"


@dataclass(frozen=True)
class MotionPanel:
    """A clip: curves (T,) in grey levels at times (T,), events and strikes in seconds.

    wanted: the curve that a clip was to have, if that is known.
    """

    title: str
    times: np.ndarray
    seen: np.ndarray
    wanted: np.ndarray | None
    events: list[float]
    strikes: list[float]
    duration: float


def motion_panel(film: Film, seen: Observation, truth: Film | None = None) -> MotionPanel:
    """The panel of a film and what is seen in it, and of the film that it was to be."""
    title = film.name if film.kind == film.name else f"{film.name}, {film.kind}"
    curve = motion_curve(film.frames, film.times)
    wanted = motion_curve(truth.frames, truth.times) if truth else None
    strikes = seen.strikes["tracked pose"]
    return MotionPanel(title, film.times, curve, wanted, seen.events, strikes, film.duration)


def motion_page(panels: Sequence[MotionPanel], title: str) -> bytes:
    """The page of `draw_motion` as a PNG."""
    return as_png(draw_motion(panels, title))


def as_png(page: Image.Image) -> bytes:
    """The content of a PNG file."""
    content = io.BytesIO()
    page.save(content, "PNG")
    return content.getvalue()


def draw_motion(panels: Sequence[MotionPanel], title: str) -> Image.Image:
    """RGB page, two clips a row, each on its own vertical scale that its two curves share."""
    rows = -(-len(panels) // _COLUMNS)
    row_height = _LABEL + _PANEL_HEIGHT + 26
    width = _COLUMNS * (_PANEL_WIDTH + _MARGIN) + _MARGIN
    page = Image.new("RGB", (width, _LEGEND + rows * row_height + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, 16), title, _INK, _font(20))
    _draw_legend(pen, any(panel.wanted is not None for panel in panels))
    for number, panel in enumerate(panels):
        x = _MARGIN + number % _COLUMNS * (_PANEL_WIDTH + _MARGIN)
        y = _LEGEND + number // _COLUMNS * row_height
        curves = [curve for curve in (panel.seen, panel.wanted) if curve is not None]
        top = max(float(np.max(curves)), 1e-6)
        pen.text((x, y), panel.title, _INK, _font(14))
        scale = f"up to {top:.1f} grey levels"
        pen.text((x + _PANEL_WIDTH, y + 2), scale, _GREY, _font(12), anchor="ra")
        page.paste(_draw_panel(panel, top), (x, y + _LABEL))
        _draw_seconds(pen, x, y + _LABEL + _PANEL_HEIGHT, panel.duration)
    return page


def _draw_legend(pen: ImageDraw.ImageDraw, with_wanted: bool) -> None:
    x, y = _MARGIN, 52
    entries = (
        (_SEEN, "motion in the clip"),
        *([(_WANTED, "in the true clip")] if with_wanted else []),
        (_EVENT, "events (lines)"),
        (_INK, "strikes seen by the tracked pose (triangles)"),
    )
    for colour, label in entries:
        pen.rectangle((x, y + 5, x + 22, y + 11), colour)
        pen.text((x + 30, y), label, _INK, _font(14))
        x += 62 + int(pen.textlength(label, _font(14)))


def _draw_panel(panel: MotionPanel, top: float) -> Image.Image:
    width, height = _PANEL_WIDTH * _SMOOTH, _PANEL_HEIGHT * _SMOOTH
    image = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(image)

    def points(curve: np.ndarray) -> list[tuple[float, float]]:
        x = panel.times / panel.duration * width
        y = height - 1 - curve / top * 0.88 * height
        return list(zip(x.tolist(), y.tolist(), strict=True))

    if panel.wanted is not None:
        edge = points(panel.wanted)
        pen.polygon([(edge[0][0], height), *edge, (edge[-1][0], height)], _WANTED)
    for event in panel.events:
        x = event / panel.duration * width
        pen.line((x, 0, x, height), _EVENT, width=2 * _SMOOTH)
    pen.line(points(panel.seen), _SEEN, width=2 * _SMOOTH, joint="curve")
    for strike in panel.strikes:
        x, size = strike / panel.duration * width, 6 * _SMOOTH
        pen.polygon([(x - size, 0), (x + size, 0), (x, 1.6 * size)], _INK)
    pen.rectangle((0, 0, width - 1, height - 1), outline=_GRID, width=_SMOOTH)
    return image.reduce(_SMOOTH)


def _draw_seconds(pen: ImageDraw.ImageDraw, x: int, y: int, duration: float) -> None:
    step = 0.5 if duration <= 5 else round(duration / 8) or 1
    for second in np.arange(0, duration + 1e-6, step):
        at = x + float(second) / duration * _PANEL_WIDTH
        pen.line((at, y, at, y + 4), _GREY)
        pen.text((at, y + 6), f"{second:g} s", _GREY, _font(12), anchor="ma")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
