"""How near clips of two engines are: what docs/precision.md says of each pair, and PSNR."""

import numpy as np
import numpy.typing as npt

from keyvid.engines.spec import ENGINES

# Least PSNR in dB of two decoded clips, measured with the packaged model, see docs/precision.md:
# where both engines compute as the graphs say, and where one does not.
_AS_GRAPHS_SAY_DB, _OTHERWISE_DB = 41.0, 36.0
_EQUAL_DB = 138.0


def bound_db(engine: str, other: str) -> float:
    """Least PSNR in dB of clips that two engines make of the same request."""
    specs = [ENGINES.get(name) for name in (engine, other)]
    as_graphs_say = all(spec and spec.tolerance is None for spec in specs)
    return _AS_GRAPHS_SAY_DB if as_graphs_say else _OTHERWISE_DB


def psnr_db(frames: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> float:
    """Of all frames (F, H, W, 3), `_EQUAL_DB` for equal ones."""
    error = 0.0
    for frame, other in zip(frames, others, strict=True):
        error += float(np.square(frame.astype(np.float32) - other).mean())
    error /= len(frames)
    return 10 * float(np.log10(255**2 / error)) if error > 0 else _EQUAL_DB


def best_match(
    part: npt.NDArray[np.uint8], whole: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8] | None:
    """The frames of `whole` that `part` is of, by its first one; None where none can be."""
    if part.shape[1:] != whole.shape[1:] or not 0 < len(part) <= len(whole):
        return None
    offsets = range(len(whole) - len(part) + 1)
    first = part[0].astype(np.float32)
    apart = [float(np.square(whole[offset] - first).mean()) for offset in offsets]
    start = int(np.argmin(apart))
    return whole[start : start + len(part)]
