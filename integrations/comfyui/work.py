"""What a node is asked to make, and how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np

# How much of a clip's time each stage takes, and those before it.
_SHARES = {"generator": (0.05, 0.35), "interpolator": (0.35, 0.8), "vae_decoder": (0.8, 1.0)}
_PARTS = 1000


@dataclass(frozen=True)
class Work:
    """A clip to be made.

    Attributes:
        picture: (H, W, 3) uint8.
        sound: samples (n, channels) float32, and their rate.
        end: (H, W, 3) uint8 of the last frame, None to let it end as it does.
        choices: options of a clip by their names, prompt and seed among them.
    """

    picture: np.ndarray
    sound: tuple[np.ndarray, int]
    end: np.ndarray | None
    choices: dict[str, Any]


def progress_of_node() -> Callable[[str, int, int, int, int], None]:
    """Shows a stage, its steps and the segment at hand on the node; ends it where that is asked.

    Raises:
        InterruptProcessingException: when it is called, after the user has pressed Cancel.
    """
    bar = comfy.utils.ProgressBar(_PARTS)

    def show(stage: str, done: int, total: int, segment: int, num_segments: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        first, last = _SHARES.get(stage, (0.0, 0.0))
        if last and total:
            share = (segment + first + (last - first) * done / total) / num_segments
            bar.update_absolute(round(share * _PARTS), _PARTS)

    return show
