"""Measurements as bars: seconds, share of the matrix product's rate, memory."""

from collections.abc import Sequence
from itertools import groupby

from PIL import Image, ImageDraw, ImageFont

from bench.speed.measurement import Measurement

_WIDTH, _ROW, _MARGIN, _LABEL, _NUMBERS = 1000, 30, 28, 150, 300
_INK, _GREY, _BAR, _FIRST, _PAPER = "#22303c", "#6b7780", "#1f5f8b", "#c9d2d9", "#ffffff"


def draw_rows(rows: Sequence[Measurement], title: str) -> Image.Image:
    """RGB page: a group of bars per case, all on the case's own scale; the first one is grey."""
    cases = [(case, list(group)) for case, group in groupby(rows, lambda row: row.case)]
    height = 2 * _MARGIN + 30 + sum(_ROW * (len(group) + 1) + 14 for _, group in cases)
    page = Image.new("RGB", (_WIDTH, height), _PAPER)
    pen = ImageDraw.Draw(page)
    pen.text((_MARGIN, _MARGIN - 8), title, _INK, ImageFont.load_default(18))
    y = _MARGIN + 34
    for case, group in cases:
        pen.text((_MARGIN, y), case, _INK, ImageFont.load_default(15))
        longest = max((row.seconds or 0 for row in group), default=0)
        for row in group:
            y += _ROW
            _draw_row(pen, y, row, longest, _FIRST if row is group[0] else _BAR)
        y += _ROW + 14
    return page


def _draw_row(
    pen: ImageDraw.ImageDraw, y: int, row: Measurement, longest: float, colour: str
) -> None:
    pen.text((_MARGIN + 12, y + 4), row.way, _INK, ImageFont.load_default(13))
    x = _MARGIN + _LABEL
    if row.seconds is None:
        pen.text(
            (x, y + 4), f"not available: {row.reason}"[:110], _GREY, ImageFont.load_default(12)
        )
        return
    width = (_WIDTH - x - _MARGIN - _NUMBERS) * row.seconds / longest
    pen.rectangle((x, y + 2, x + max(width, 1), y + _ROW - 8), colour)
    pen.text((x + width + 10, y + 4), _numbers(row), _INK, ImageFont.load_default(13))


def _numbers(row: Measurement) -> str:
    seconds = row.seconds or 0
    words = [f"{seconds:.1f} s" if seconds >= 1 else f"{1e3 * seconds:.0f} ms"]
    if row.share_of_matmul:
        words.append(f"{row.share_of_matmul:.0%} of matmul")
    if row.peak_bytes:
        words.append(f"{row.peak_bytes / 1e9:.1f} GB")
    return ", ".join(words)
