"""Times and places as people write them."""

import math
import re

from keyvid.errors import SettingsError

LATEST_SECOND = 24 * 3600.0

_CLOCK = re.compile(r"(?:(\d{1,2}):)?(\d{1,4}):([0-5]?\d(?:\.\d{1,9})?)")
_PLACES = {
    "centre": (0.5, 0.5),
    "center": (0.5, 0.5),
    "top": (0.5, 0.0),
    "bottom": (0.5, 1.0),
    "left": (0.0, 0.5),
    "right": (1.0, 0.5),
}


def parse_time(
    value: object, name: str = "start", least: float = 0.0, most: float = LATEST_SECOND
) -> float:
    """A time in seconds, from a number or from text such as 1.5, 0:01.5 or 1:02:03.

    Raises:
        SettingsError: it is no time from `least` to `most`.
    """
    try:
        clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
        if clock:
            seconds = int(clock[1] or 0) * 3600 + int(clock[2]) * 60 + float(clock[3])
        else:
            seconds = float(value)  # type: ignore[arg-type] # what is no number is refused here
    except (TypeError, ValueError, OverflowError, RuntimeError):
        seconds = math.nan
    if isinstance(value, bool) or not least <= seconds <= most:
        raise SettingsError(
            f"{name} is {str(value)[:40]}; expected seconds from {least:g} to {most:g}, "
            "or a time such as 1:02.5"
        )
    return seconds


def parse_position(value: str | tuple[float, float]) -> tuple[float, float]:
    """Where a crop lies: (x, y) from (0, 0), the upper left, to (1, 1), the lower right.

    Args:
        value: centre, top, bottom, left, right, two numbers such as "0.5,0.2", or (x, y).
    Raises:
        SettingsError: it is no such place.
    """
    if isinstance(value, str) and value.strip().lower() in _PLACES:
        return _PLACES[value.strip().lower()]
    try:
        x, y = (float(part) for part in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError, OverflowError):
        x = y = math.nan
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise SettingsError(
            f"crop position is {str(value)[:40]}; expected centre, top, bottom, left, right, "
            "or two numbers from 0 to 1 such as 0.5,0.2"
        )
    return x, y
