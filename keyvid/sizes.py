"""Sizes in bytes, read and written as people do."""

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY_UNITS = {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_NAMES = ("kB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([KMGT]?I?)B?")


def parse_size(text: str) -> int:
    """Bytes of a text such as "12G", "1.5 GiB", "800MB" or "2000000000", at least one.

    Raises:
        ValueError: it is none.
    """
    found = _SIZE.fullmatch(text.strip().upper())
    unit = (_UNITS | _BINARY_UNITS).get(found[2]) if found else None
    size = round(float(found[1]) * unit) if found and unit else 0
    if not size:
        raise ValueError(f"{text!r:.40} is no size; write it as 12G, 1.5GiB or 800M")
    return size


def format_size(size: int) -> str:
    """A number of bytes in three digits, such as "379 MB"."""
    (text,) = format_sizes(size)
    return text


def format_sizes(*sizes: int) -> list[str]:
    """The same of sizes that stand side by side: those that differ get digits until it is seen."""
    texts: list[str] = []
    for digits in range(3, 20):
        texts = [_format(size, digits) for size in sizes]
        if len(set(texts)) == len(set(sizes)):
            break
    return texts


def _format(size: int, digits: int) -> str:
    """`size` with that many digits, in the unit in which it is 1 to 999."""
    rounded = size
    if (excess := len(str(size)) - digits) > 0:
        rounded = round(size, -excess)
    if rounded < 1000:
        return f"{rounded} byte{'' if rounded == 1 else 's'}"
    thousands = min((len(str(rounded)) - 1) // 3, len(_NAMES))
    whole, fraction = divmod(rounded, 1000**thousands)
    decimals = f"{fraction:0{3 * thousands}}".rstrip("0")
    return f"{whole}{'.' if decimals else ''}{decimals} {_NAMES[thousands - 1]}"
