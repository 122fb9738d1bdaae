"""Times as people write them."""

from typing import Any

import pytest

from keyvid.errors import SettingsError
from keyvid.runtime.media.arguments import parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("1.5", 1.5),
        (" 2 ", 2),
        ("0:01.5", 1.5),
        ("1:2", 62),
        ("90:00", 5400),
        ("1:02:03.25", 3723.25),
        ("24:00:00", 86_400),
        (3, 3),
        (0.25, 0.25),
    ],
)
def test_times(text: Any, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "-1", "1:60", "1:-1", ":1", "1:2:3:4", "24:00:01", "much", "1:nan", "nan", "inf"),
        *("1e308", "9" * 310, "9" * 5000, -0.1, 86_401, 10**400, True, None, []),
    ],
)
def test_what_is_no_time(text: Any) -> None:
    with pytest.raises(SettingsError, match=r"start is .*; expected seconds from 0 to") as caught:
        parse_time(text)
    assert len(str(caught.value)) < 150
