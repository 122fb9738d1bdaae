"""Many channels mixed into two by where their loudspeakers stand (ITU-R BS.775)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_HALF_POWER = 0.5**0.5  # of the centre and the surrounds, -3 dB
# What goes into the left and the right channel, by FFmpeg's names of loudspeakers. Those for low
# frequencies only (LFE, LFE2) go into neither.
_WEIGHTS = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (_HALF_POWER, _HALF_POWER),
    "BL": (_HALF_POWER, 0.0),
    "BR": (0.0, _HALF_POWER),
    "SL": (_HALF_POWER, 0.0),
    "SR": (0.0, _HALF_POWER),
    "BC": (0.5, 0.5),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "WL": (1.0, 0.0),
    "WR": (0.0, 1.0),
    "TFC": (0.5, 0.5),
    "TBC": (0.5, 0.5),
    "TFL": (_HALF_POWER, 0.0),
    "TFR": (0.0, _HALF_POWER),
    "TBL": (_HALF_POWER, 0.0),
    "TBR": (0.0, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
}
# As players take them where a file does not say where its channels belong.
_USUAL = {
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def kept_channels(names: Sequence[str]) -> int:
    """How many channels `mix` makes of channels of these names."""
    if len(names) <= 2:
        return len(names)
    return 1 if _weights(names) is None else 2


def mix(samples: npt.NDArray[np.float32], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """(n, channels) as (n, 1) or (n, 2): more channels than two by layout, unknown ones as a mean.

    Args:
        names: of the channels, as FFmpeg calls them.
    """
    if samples.shape[1] <= 2:
        return samples
    weights = _weights(names)
    if weights is None:
        weights = np.full((samples.shape[1], 1), 1 / samples.shape[1], np.float32)
    mixed: npt.NDArray[np.float32] = samples @ weights
    return mixed


def _weights(names: Sequence[str]) -> npt.NDArray[np.float32] | None:
    """(channels, 2), or None where it is not known where the channels belong."""
    if not all(name in _WEIGHTS for name in names):
        names = _USUAL.get(len(names), ())
    return np.array([_WEIGHTS[name] for name in names], np.float32) if names else None
