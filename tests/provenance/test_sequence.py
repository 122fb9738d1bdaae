"""What became of a row of packets."""

import pytest

from keyvid.provenance.sequence import Comparison, compare

ROW = [bytes([number]) for number in range(6)]
OTHER = b"other"


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (ROW, Comparison("same", 6)),
        (ROW[:4], Comparison("cut", 4)),
        (ROW[2:], Comparison("cut", 4)),
        (ROW[:2] + ROW[4:], Comparison("cut", 4)),
        ([], Comparison("missing", 0)),
        ([*ROW[:2], OTHER, *ROW[3:]], Comparison("changed", 5, (2,))),
        ([*ROW[:2], OTHER], Comparison("changed", 2, (2,))),
        ([ROW[1], ROW[0], *ROW[2:]], Comparison("changed", 4, (0, 1))),
        ([ROW[1], ROW[0]], Comparison("changed", 2)),
        ([*ROW, ROW[0]], Comparison("changed", 7)),
        ([OTHER] * 6, Comparison("anew", 0)),
        ([ROW[0], *[OTHER] * 4, ROW[5]], Comparison("anew", 2)),
        ([OTHER] * 3, Comparison("anew", 0)),
    ],
)
def test_comparison(found: list[bytes], want: Comparison) -> None:
    assert compare(ROW, found) == want
