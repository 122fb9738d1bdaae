"""What the networks can be made to do without, to see what it is good for."""

from typing import Any

import numpy as np

from keyvid.runtime.diffusion import Diffusion


class _WithoutFrameIndex(Diffusion):
    """The generator is told that its keyframes are evenly spread, wherever they are."""

    def _sample(self, unet: str, **inputs: Any) -> np.ndarray:
        if "frame_index" in inputs:
            count, frames = len(inputs["frame_index"]), self.stages.bundle.dimensions.frames
            inputs["frame_index"] = np.arange(count) * frames // count
        return super()._sample(unet, **inputs)


class _WithoutFirstFrame(Diffusion):
    """The interpolator is not shown frame 0, only the other keyframes."""

    def interpolate(self, keyframe_latents: np.ndarray, keyframes: np.ndarray) -> np.ndarray:
        return super().interpolate(keyframe_latents[:, :, 1:], keyframes[1:])


ABLATIONS = {"frame-index": _WithoutFrameIndex, "first-frame": _WithoutFirstFrame}
