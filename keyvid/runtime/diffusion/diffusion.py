"""The two diffusion stages: keyframes first, then all frames through them."""

import numpy as np

from keyvid.runtime.diffusion.conditioning import (
    BRANCHES,
    Conditions,
    repeated_first_frame,
    scattered_keyframes,
)
from keyvid.runtime.diffusion.denoise import Known, denoise
from keyvid.runtime.diffusion.guidance import guidance_rows, guided_velocity
from keyvid.runtime.diffusion.noise import FrameNoise, seeded, standard_noise
from keyvid.runtime.diffusion.schedule import SOLVERS, trailing_timesteps
from keyvid.runtime.diffusion.segments import OVERLAP, Segment
from keyvid.runtime.networks.stages import StageRunner
from keyvid.sampling import Sampling

State = dict[str, np.ndarray]


class Diffusion:
    """Makes the latents of a clip, segment by segment.

    Args:
        first_frame: (1, C, h, w) latent of the picture.
        seed: of all noise.
        rng: the generator of the first segment, from which the picture's latent was drawn.
    """

    def __init__(
        self,
        stages: StageRunner,
        sampling: Sampling,
        first_frame: np.ndarray,
        seed: int,
        rng: np.random.Generator,
    ) -> None:
        self.stages = stages
        self.sampling = sampling
        self.first_frame = first_frame
        self._seed = seed
        self._rng = rng
        self._noise: FrameNoise | None = None  # of all frames, where attention has windows
        self._shared: np.ndarray | None = None  # (1, C, n, h, w) last frames of the segment before

    def state(self) -> State:
        """What the next segment needs of those before."""
        assert self._shared is not None, "a segment has been made"
        state = {"shared": self._shared}
        if self._noise:
            state |= {"noise": self._noise.first, "order": np.array(self._noise.order)}
        return state

    def restore(self, state: State) -> None:
        """Go on from a `state`, as if the segments before had been made here."""
        self._shared = state["shared"]
        if "noise" in state:
            stride = self.stages.bundle.dimensions.window_stride
            self._noise = FrameNoise(state["noise"], stride, state["order"].tolist())

    def make_segment(self, segment: Segment, conditions: Conditions) -> np.ndarray:
        """Latents (1, C, T, h, w) of the frames of `segment`, which go on from those before."""
        if segment.index:
            self._rng = seeded(self._seed, segment.index)
        keyframes = self.generate_keyframes(segment, conditions)
        latents = self.interpolate(segment, conditions, keyframes)
        self._shared = latents[:, :, -OVERLAP:]
        return latents

    def generate_keyframes(self, segment: Segment, conditions: Conditions) -> np.ndarray:
        """Latents (1, C, K, h, w) of the segment's keyframes, from the picture."""
        keyframes = segment.keyframes
        condition = repeated_first_frame(self.first_frame, len(keyframes))
        known = None
        if self._shared is not None:
            places = np.arange(len(segment.known_keyframes))
            known = Known(places, self._shared[:, :, segment.known_keyframes])
        return self._sample(
            "generator",
            conditions,
            noise=standard_noise(condition.shape, self._rng),
            condition=condition,
            known=known,
            keyframes=keyframes,
            fps=np.array(self.stages.bundle.dimensions.keyframe_fps),
            frame_index=keyframes,
        )

    def interpolate(
        self, segment: Segment, conditions: Conditions, keyframe_latents: np.ndarray
    ) -> np.ndarray:
        """Latents (1, C, T, h, w) of all frames of the segment, from those of its keyframes."""
        size = self.stages.bundle.dimensions
        condition = scattered_keyframes(keyframe_latents, segment.keyframes, size.frames)
        known = None
        if self._shared is not None:
            known = Known(np.arange(segment.known), self._shared)
            condition[:, :, : segment.known] = self._shared
        return self._sample(
            "interpolator",
            conditions,
            noise=self._noise_of(segment, condition.shape),
            condition=condition,
            known=known,
            fps=np.array(size.fps),
        )

    def _noise_of(self, segment: Segment, shape: tuple[int, ...]) -> np.ndarray:
        """Noise (1, C, T, h, w) of the segment's frames, that of shared ones as it was."""
        size = self.stages.bundle.dimensions
        if self.sampling.temporal == "full":
            return standard_noise(shape, self._rng)
        if self._noise is None:
            self._noise = FrameNoise.draw(shape, size.window, size.window_stride, self._rng)
        end = segment.start + size.frames
        self._noise.extend(end, self._rng)
        return self._noise.frames(segment.start, end)

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
            return denoise(velocity, noise, stage.steps(schedule), self._rng, known)
