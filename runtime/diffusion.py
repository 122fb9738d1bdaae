"""The two diffusion stages: keyframes first, then all frames through them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from keyvid.runtime.conditioning import Conditions, repeated_first_frame, scattered_keyframes
from keyvid.runtime.guidance import active_branches, guided_velocity
from keyvid.runtime.noise import standard_noise, window_noise
from keyvid.runtime.sampling import denoise
from keyvid.runtime.schedule import SOLVERS
from keyvid.runtime.stages import StageRunner
from keyvid.sampling import Sampling


@dataclass(frozen=True)
class Diffusion:
    """What both stages share.

    Attributes:
        batches: guidance branches per network call, by U-Net.
        rng: draws all noise.
    """

    stages: StageRunner
    sampling: Sampling
    batches: Mapping[str, int]
    conditions: Conditions
    rng: np.random.Generator

    def generate_keyframes(self, first_frame: np.ndarray, keyframes: np.ndarray) -> np.ndarray:
        """Latents (1, C, K, h, w) of the frames `keyframes` (K,), from that of frame 0."""
        condition = repeated_first_frame(first_frame, len(keyframes))
        return self._sample(
            "generator",
            noise=standard_noise(condition.shape, self.rng),
            condition=condition,
            keyframes=keyframes,
            fps=np.array(self.stages.bundle.dimensions.keyframe_fps),
            frame_index=keyframes,
        )

    def interpolate(self, keyframe_latents: np.ndarray, keyframes: np.ndarray) -> np.ndarray:
        """Latents (1, C, T, h, w) of all frames, from those of the frames `keyframes` (K,)."""
        size = self.stages.bundle.dimensions
        condition = scattered_keyframes(keyframe_latents, keyframes, size.frames)
        if self.sampling.temporal == "windows":
            noise = window_noise(condition.shape, size.window, size.window_stride, self.rng)
        else:
            noise = standard_noise(condition.shape, self.rng)
        return self._sample(
            "interpolator",
            temporal=self.sampling.temporal,
            noise=noise,
            condition=condition,
            fps=np.array(size.fps),
        )

    def _sample(
        self,
        unet: str,
        *,
        noise: np.ndarray,
        condition: np.ndarray,
        keyframes: np.ndarray | None = None,
        temporal: str | None = None,
        **inputs: np.ndarray,
    ) -> np.ndarray:
        """Denoise `noise` (1, C, F, h, w) with the stage `unet`.

        Args:
            condition: latents beside the noisy ones, of the same shape.
            keyframes: (F,) frames of the call, None for all.
            temporal: which graph of the stage.
            inputs: what else the network takes, without the batch axis.
        """
        bundle, sampling = self.stages.bundle, self.sampling.of(unet)
        active, weights = active_branches(*sampling.scales)
        context, audio = self.conditions.per_branch(
            active, bundle.dimensions.frames, bundle.conditioning.layout, keyframes
        )
        make_schedule = SOLVERS[sampling.solver]
        schedule = make_schedule(sampling.steps, sampling.eta, bundle.conditioning.dynamic_rescale)
        batch = self.batches[unet]
        with self.stages.open(unet, branches=batch, temporal=temporal) as stage:
            velocity = guided_velocity(
                stage,
                batch,
                weights,
                sampling.guidance_rescale,
                condition=condition,
                context=context,
                audio=audio,
                **inputs,
            )
            return denoise(velocity, noise, stage.steps(schedule), self.rng)
