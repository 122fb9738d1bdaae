"""What the networks can be made to do without, to see what it is good for."""

from dataclasses import replace
from typing import Any

import numpy as np

from keyvid.runtime.diffusion.conditioning import Conditions
from keyvid.runtime.diffusion.diffusion import Diffusion
from keyvid.runtime.diffusion.segments import Segment


class _WithoutFrameIndex(Diffusion):
    """The generator is told that its keyframes are evenly spread, wherever they are."""

    def _sample(self, unet: str, conditions: Conditions, **inputs: Any) -> np.ndarray:
        if "frame_index" in inputs:
            count, frames = len(inputs["frame_index"]), self.stages.bundle.dimensions.frames
            inputs["frame_index"] = np.arange(count) * frames // count
        return super()._sample(unet, conditions, **inputs)


class _WithoutFirstFrame(Diffusion):
    """The interpolator is not shown frame 0, only the other keyframes."""

    def interpolate(
        self, segment: Segment, conditions: Conditions, keyframe_latents: np.ndarray
    ) -> np.ndarray:
        others = replace(segment, keyframes=segment.keyframes[1:])
        return super().interpolate(others, conditions, keyframe_latents[:, :, 1:])


ABLATIONS = {"frame-index": _WithoutFrameIndex, "first-frame": _WithoutFirstFrame}
