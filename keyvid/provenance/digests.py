"""Digests of arrays, and of what each stage of a clip has made."""

import hashlib
import json

import numpy as np

_STATE = "stages"
_SHORT = 16  # hex digits of a stage's digest: it names what differs, and need not resist forgery
_PIECE = 1 << 24  # bytes that are read at a time


def digest_of(array: np.ndarray) -> str:
    """sha256 (hex) of dtype, shape and values in C order, little-endian."""
    values = array.astype(array.dtype.newbyteorder("<"), copy=False)
    found = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    step = max(_PIECE // max(rows[:1].nbytes, 1), 1)
    for start in range(0, len(rows), step):  # a clip of an hour is not read into memory
        found.update(np.ascontiguousarray(rows[start : start + step]).data)
    return found.hexdigest()


class Trace:
    """Digests of what the stages of a clip make, in the order in which they make it.

    Args:
        state: as `state` gave it where the clip was interrupted; empty at the beginning.
    Raises:
        ValueError: it is none.
    """

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.digests: dict[str, str] = {}
        if _STATE in state:
            try:
                found = json.loads(str(state[_STATE]))
            except RecursionError:
                raise ValueError("no digests: nested too deeply") from None
            if not isinstance(found, dict) or not all(isinstance(d, str) for d in found.values()):
                raise ValueError("no digests of stages by their names")
            self.digests = found

    def add(self, name: str, made: np.ndarray) -> None:
        """Note what a stage has made."""
        self.digests[name] = digest_of(made)[:_SHORT]

    @property
    def state(self) -> dict[str, np.ndarray]:
        """What is needed to go on from here."""
        return {_STATE: np.array(json.dumps(self.digests))} if self.digests else {}
