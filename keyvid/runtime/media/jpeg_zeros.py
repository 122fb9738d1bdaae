"""Zeros amid the pixels of a JPEG, as disks and broken downloads leave them.

libjpeg decodes them without a word, into a picture that is grey or torn from there on. Zeros that
an encoder wrote are told apart by its tables: the first symbol of each has the code of zero bits
alone. Where that is the end of a block, a flat area may be zeros; elsewhere zeros are blocks of 63
coefficients of one value each, which no picture has.
"""

import mmap
import re

_ZEROS = bytes(512)  # more than 20 such blocks, and a sector of a disk
_OTHERS = re.compile(rb"[^\0]")
_AC = 1  # the class of a table
_COUNTS = 16  # bytes: how many codes a table has of each length
_END_OF_BLOCK = 0


def zero_symbols(segment: bytes) -> dict[int, int]:
    """What the code of zero bits alone stands for, by the numbers of the AC tables of a DHT."""
    found, at = {}, 0
    while at + 1 + _COUNTS < len(segment):
        kind, number = divmod(segment[at], 16)
        symbols = at + 1 + _COUNTS
        if kind == _AC:
            found[number] = segment[symbols]
        at = symbols + sum(segment[at + 1 : symbols])
    return found


def ac_tables(segment: bytes) -> set[int]:
    """Numbers of the AC tables that the components of an SOS are coded with."""
    num_components = segment[0] if segment else 0
    return {numbers & 15 for numbers in segment[2 : 1 + 2 * num_components : 2]}


def holds_zeros(
    data: mmap.mmap, start: int, end: int, tables: set[int], symbols: dict[int, int]
) -> bool:
    """Whether there are zeros among the data of a scan that no encoder wrote.

    Args:
        tables: as `ac_tables` gives them.
        symbols: as `zero_symbols` gives them, of all tables so far.
    """
    if all(symbols.get(number, _END_OF_BLOCK) == _END_OF_BLOCK for number in tables):
        return False
    at = data.find(_ZEROS, start, end)
    # At the end they are padding, which some cameras write.
    return at >= 0 and _OTHERS.search(data, at, end) is not None
