"""Remarks: warnings to the user about a picture, a sound or a clip."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[list[str] | None] = ContextVar("remarks", default=None)

log = logging.getLogger(__name__)


def remark(text: str) -> None:
    """Log `text` as a warning, and add it to the list of an enclosing `collected`, if any."""
    log.warning("%s", text)
    remarks = _collected.get()
    if remarks is not None:
        remarks.append(text)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Collect the remarks made in the `with` block, in this thread or task only."""
    remarks: list[str] = []
    token = _collected.set(remarks)
    try:
        yield remarks
    finally:
        _collected.reset(token)
