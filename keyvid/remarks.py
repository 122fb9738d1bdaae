"""Remarks: what there is to say to the user about a picture, a sound or a clip that is no error."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_collected: ContextVar[list[str] | None] = ContextVar("remarks", default=None)

log = logging.getLogger(__name__)


def remark(text: str) -> None:
    """Log `text` as a warning, and give it to whoever collects the remarks of this work."""
    log.warning("%s", text)
    remarks = _collected.get()
    if remarks is not None:
        remarks.append(text)


@contextmanager
def collected() -> Iterator[list[str]]:
    """The remarks of the work in the `with` block, in this thread or task alone."""
    remarks: list[str] = []
    token = _collected.set(remarks)
    try:
        yield remarks
    finally:
        _collected.reset(token)
