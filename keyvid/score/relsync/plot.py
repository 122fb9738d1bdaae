"""How much of a shifted sound the judge notices, as a curve."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from keyvid.score.plot import as_png
from keyvid.score.relsync.verdicts import SHIFTS_MS, Estimate, Verdict, signed_sensitivity

_WIDTH, _HEIGHT = 720, 360
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 84, 24, 48
_SMOOTH = 3  # drawn this much larger and shrunk: Pillow's lines have no antialiasing
_INK, _GREY, _GRID, _PAPER = "#22303c", "#6b7780", "#e3e7ea", "#ffffff"
_COLOURS = ("#1f5f8b", "#d1495b")


def sensitivity_page(verdicts: Sequence[Verdict], *, with_true: bool) -> bytes:
    """A PNG of what the judge notices in films, and in the true ones if there are any."""
    curves = {"films": signed_sensitivity(verdicts, true=False)}
    if with_true:
        curves["true films"] = signed_sensitivity(verdicts, true=True)
    title = "RelSync of a film with its sound later, against itself"
    return as_png(draw_sensitivity(curves, title))


def draw_sensitivity(curves: Mapping[str, Mapping[int, Estimate]], title: str) -> Image.Image:
    """RGB page: RelSync by how much later the sound is in ms, a curve for each set of films."""
    estimates = [estimate for curve in curves.values() for estimate in curve.values()]
    spread = max(abs(bound - 50) for estimate in estimates for bound in estimate.interval)
    reach = 1.1 * max(spread, 0.5)  # of the scale around 50
    page = Image.new("RGB", (_WIDTH * _SMOOTH, _HEIGHT * _SMOOTH), _PAPER)
    pen = ImageDraw.Draw(page)

    def place(ms: float, value: float) -> tuple[float, float]:
        across = (ms + SHIFTS_MS[-1]) / (2 * SHIFTS_MS[-1])
        down = (50 + reach - value) / (2 * reach)
        x = _LEFT + across * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + down * (_HEIGHT - _TOP - _BOTTOM)
        return x * _SMOOTH, y * _SMOOTH

    for value in (50 - reach, 50, 50 + reach):
        ends = [place(ms, value) for ms in (-SHIFTS_MS[-1], SHIFTS_MS[-1])]
        pen.line(ends, _GRID if value != 50 else _GREY, width=_SMOOTH)
        x, y = ends[0]
        pen.text((x - 24, y), f"{value:.1f}", _GREY, _font(12), anchor="rm")
    for ms in (0, *SHIFTS_MS, *(-ms for ms in SHIFTS_MS)):
        x, y = place(ms, 50 - reach)
        pen.text((x, y + 18), f"{ms:+d}" if ms else "0 ms", _GREY, _font(12), anchor="mt")
    pen.text((_SMOOTH * 20, _SMOOTH * 14), title, _INK, _font(20))
    label_at = float(_SMOOTH * 20)
    for (name, curve), colour in zip(curves.items(), _COLOURS, strict=False):
        points = [place(ms, curve[ms].mean) for ms in sorted(curve)]
        pen.line(points, colour, width=2 * _SMOOTH, joint="curve")
        for ms, estimate in curve.items():
            pen.line([place(ms, bound) for bound in estimate.interval], colour, width=_SMOOTH)
        pen.text((label_at, _SMOOTH * 48), name, colour, _font(14))
        label_at += pen.textlength(name, _font(14)) + _SMOOTH * 24
    return page.reduce(_SMOOTH)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SMOOTH)
