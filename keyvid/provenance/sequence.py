"""What became of a row of packets: all there, a part, some changed, or none of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Fate = Literal["same", "cut", "changed", "anew", "missing"]


@dataclass(frozen=True)
class Comparison:
    """What became of a row of packets.

    Attributes:
        fate: "same"; "cut", where those that are there are as they were; "changed", where some of
            them are; "anew", where most are as none was; "missing", where none is there.
        kept: how many are as they were.
        changed: numbers of those that are not, from 0.
    """

    fate: Fate
    kept: int
    changed: tuple[int, ...] = ()


def compare(wanted: Sequence[bytes], found: Sequence[bytes]) -> Comparison:
    """What became of `wanted`, the digests of packets in their order."""
    if list(found) == list(wanted):
        return Comparison("same", len(found))
    if not found:
        return Comparison("missing", 0)
    known = set(wanted)
    strangers = tuple(number for number, one in enumerate(found) if one not in known)
    kept = len(found) - len(strangers)
    if len(strangers) > kept:  # silence is encoded alike by one encoder in many clips
        return Comparison("anew", kept)
    if len(found) == len(wanted):
        pairs = enumerate(zip(wanted, found, strict=True))
        changed = tuple(number for number, (one, other) in pairs if one != other)
        return Comparison("changed", len(found) - len(changed), changed)
    if strangers:
        return Comparison("changed", kept, strangers)
    left = iter(wanted)
    if all(any(one == other for other in left) for one in found):  # in the same order
        return Comparison("cut", kept)
    return Comparison("changed", kept)
