"""The two diffusion stages: keyframes first, then all frames through them."""

from dataclasses import dataclass

import numpy as np

from keyvid.runtime.diffusion.conditioning import (
    BRANCHES,
    Conditions,
    repeated_first_frame,
    scattered_keyframes,
)
from keyvid.runtime.diffusion.denoise import Known, denoise
from keyvid.runtime.diffusion.guidance import guidance_rows, guided_velocity
from keyvid.runtime.diffusion.noise import FrameNoise, standard_noise
from keyvid.runtime.diffusion.schedule import SOLVERS, trailing_timesteps
from keyvid.runtime.diffusion.timeline import Window
from keyvid.runtime.networks.stages import StageRunner
from keyvid.sampling import Sampling


@dataclass
class Diffusion:
    """What the stages of a clip share from window to window.

    Attributes:
        first_frame: (1, C, h, w) latent of the picture.
        rng: draws the noise of the window at hand.
        noise: of all frames so far, where the interpolator attends in temporal windows.
        shared: (1, C, n, h, w) the last frames of the window before.
    """

    stages: StageRunner
    sampling: Sampling
    first_frame: np.ndarray
    rng: np.random.Generator
    noise: FrameNoise | None = None
    shared: np.ndarray | None = None

    def make_window(self, window: Window, conditions: Conditions) -> np.ndarray:
        """Latents (1, C, T, h, w) of the frames of `window`, which go on from those before."""
        keyframes = self.generate_keyframes(window, conditions)
        return self.interpolate(window, conditions, keyframes)

    def generate_keyframes(self, window: Window, conditions: Conditions) -> np.ndarray:
        """Latents (1, C, K, h, w) of the window's keyframes, from the picture."""
        keyframes = window.keyframes
        condition = repeated_first_frame(self.first_frame, len(keyframes))
        known = None
        if self.shared is not None:
            places = np.arange(len(window.known_keyframes))
            known = Known(places, self.shared[:, :, window.known_keyframes])
        return self._sample(
            "generator",
            conditions,
            noise=standard_noise(condition.shape, self.rng),
            condition=condition,
            known=known,
            keyframes=keyframes,
            fps=np.array(self.stages.bundle.dimensions.keyframe_fps),
            frame_index=keyframes,
        )

    def interpolate(
        self, window: Window, conditions: Conditions, keyframe_latents: np.ndarray
    ) -> np.ndarray:
        """Latents (1, C, T, h, w) of all frames of the window, from those of its keyframes."""
        size = self.stages.bundle.dimensions
        condition = scattered_keyframes(keyframe_latents, window.keyframes, size.frames)
        known = None
        if self.shared is not None:
            known = Known(np.arange(window.known), self.shared)
            condition[:, :, : window.known] = self.shared
        return self._sample(
            "interpolator",
            conditions,
            noise=self._noise_of(window, condition.shape),
            condition=condition,
            known=known,
            fps=np.array(size.fps),
        )

    def _noise_of(self, window: Window, shape: tuple[int, ...]) -> np.ndarray:
        """Noise (1, C, T, h, w) of the window's frames, that of shared ones as it was."""
        size = self.stages.bundle.dimensions
        if self.sampling.temporal == "full":
            return standard_noise(shape, self.rng)
        if self.noise is None:
            self.noise = FrameNoise.draw(shape, size.window, size.window_stride, self.rng)
        end = window.start + size.frames
        self.noise.extend(end, self.rng)
        return self.noise.frames(window.start, end)

    def _sample(
        self,
        unet: str,
        conditions: Conditions,
        *,
        noise: np.ndarray,
        condition: np.ndarray,
        known: Known | None,
        keyframes: np.ndarray | None = None,
        **inputs: np.ndarray,
    ) -> np.ndarray:
        """Denoise `noise` (1, C, F, h, w) with the stage `unet`.

        Args:
            condition: latents beside the noisy ones, of the same shape.
            keyframes: (F,) frames of the call, None for all.
            inputs: what else the network takes, without the batch axis.
        """
        bundle, sampling = self.stages.bundle, self.sampling.of(unet)
        context, audio = conditions.per_branch(
            np.arange(len(BRANCHES)),
            bundle.dimensions.frames,
            bundle.conditioning.layout,
            keyframes,
        )
        timesteps = trailing_timesteps(sampling.steps, sampling.spacing)
        make_schedule = SOLVERS[sampling.solver]
        schedule = make_schedule(timesteps, sampling.eta, bundle.conditioning.dynamic_rescale)
        with self.stages.open(unet) as stage:
            velocity = guided_velocity(
                stage,
                guidance_rows(sampling),
                sampling.guidance_rescale,
                condition=condition,
                context=context,
                audio=audio,
                **inputs,
            )
            return denoise(velocity, noise, stage.steps(schedule), self.rng, known)
