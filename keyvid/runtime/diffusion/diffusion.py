"""The two diffusion stages: keyframes first, then all frames through them."""

from collections.abc import Callable
from functools import partial

import numpy as np

from keyvid.runtime.diffusion.conditioning import (
    BRANCHES,
    Conditions,
    repeated_first_frame,
    scattered_keyframes,
)
from keyvid.runtime.diffusion.denoise import Known, Walk, denoise
from keyvid.runtime.diffusion.guidance import guidance_rows, guided_velocity
from keyvid.runtime.diffusion.noise import (
    FrameNoise,
    pack_generator,
    seeded,
    standard_noise,
    unpack_generator,
)
from keyvid.runtime.diffusion.schedule import SOLVERS, trailing_timesteps
from keyvid.runtime.diffusion.segments import Segment
from keyvid.runtime.networks.stages import StageRunner
from keyvid.sampling import Sampling

# All that is needed to go on from a step, or from the end of a segment: arrays by names.
State = dict[str, np.ndarray]


def place_of(state: State) -> str:
    """How far a `Diffusion` was, in words."""
    done = int(state["num_segments"])
    if "walk.num_done" not in state:
        return f"segment {done}"
    unet = "interpolator" if "keyframes" in state else "generator"
    return f"segment {done + 1}, step {int(state['walk.num_done'])} of the {unet}"


class Diffusion:
    """Makes the latents of a clip, segment by segment.

    Args:
        first_frame: (1, C, h, w) latent of the picture.
        seed: of all noise.
        rng: the generator of the first segment, from which the picture's latent was drawn.
        keep: called with the `state` after each step.
        end: (1, C, h, w) latent of the given last frame.
        note: called with the name of a U-Net and a segment's number, and the latents made there.

    Attributes:
        num_segments: how many segments are made.
    """

    def __init__(
        self,
        stages: StageRunner,
        sampling: Sampling,
        first_frame: np.ndarray,
        seed: int,
        rng: np.random.Generator,
        keep: Callable[[State], None] = lambda state: None,
        end: np.ndarray | None = None,
        note: Callable[[str, np.ndarray], None] = lambda name, latents: None,
    ) -> None:
        self.stages = stages
        self.sampling = sampling
        self.first_frame = first_frame
        self.end = end
        self.num_segments = 0
        self._seed = seed
        self._rng = rng
        self._keep = keep
        self._note = note
        self._noise: FrameNoise | None = None  # of all frames, where attention has windows
        self._shared: np.ndarray | None = None  # (1, C, n, h, w) last frames of the segment before
        self._keyframes: np.ndarray | None = None  # (1, C, K, h, w) of the segment at hand
        self._walk: Walk | None = None  # of the U-Net at work

    def state(self) -> State:
        """All that is needed to go on from here."""
        state = {"num_segments": np.array(self.num_segments), "rng": pack_generator(self._rng)}
        if self._shared is not None:
            state["shared"] = self._shared
        if self._noise:
            state |= {"frame_noise": self._noise.first, "order": np.array(self._noise.order)}
        if self._keyframes is not None:
            state["keyframes"] = self._keyframes
        if self._walk:
            state |= {f"walk.{name}": np.asarray(v) for name, v in vars(self._walk).items()}
        return state

    def restore(self, state: State) -> None:
        """Go on from a `state`, as if all before it had been done here."""
        self.num_segments = int(state["num_segments"])
        self._rng = unpack_generator(state["rng"])
        self._shared, self._keyframes = state.get("shared"), state.get("keyframes")
        if "frame_noise" in state:
            stride = self.stages.bundle.dimensions.window_stride
            self._noise = FrameNoise(state["frame_noise"], stride, state["order"].tolist())
        if "walk.num_done" in state:
            arrays = [state[f"walk.{name}"] for name in ("noise", "latent", "previous")]
            self._walk = Walk(int(state["walk.num_done"]), *arrays)

    def make_segment(self, segment: Segment, conditions: Conditions) -> np.ndarray:
        """Latents (1, C, T, h, w) of the frames of `segment`, which go on from those before."""
        if segment.index and self._walk is None:
            self._rng = seeded(self._seed, segment.index)
        if self._keyframes is None:
            self._keyframes = self.generate_keyframes(segment, conditions)
            self._note(f"generator {segment.index + 1}", self._keyframes)
        latents = self.interpolate(segment, conditions, self._keyframes)
        self._note(f"interpolator {segment.index + 1}", latents)
        self._shared, self._keyframes = latents[:, :, segment.shared], None
        self.num_segments += 1
        return latents

    def generate_keyframes(self, segment: Segment, conditions: Conditions) -> np.ndarray:
        """Latents (1, C, K, h, w) of the segment's keyframes, from the picture."""
        keyframes = segment.keyframes
        condition = repeated_first_frame(self.first_frame, len(keyframes))
        return self._sample(
            "generator",
            conditions,
            draw_noise=partial(standard_noise, condition.shape, self._rng),
            condition=condition,
            known=self._known_keyframes(segment),
            keyframes=keyframes,
            fps=np.array(self.stages.bundle.dimensions.keyframe_fps),
            frame_index=keyframes,
        )

    def _known_keyframes(self, segment: Segment) -> Known | None:
        """Keyframes that the segment before has made, and the given last frame."""
        frames, latents = segment.known_keyframes, []
        if self._shared is not None:
            latents.append(self._shared[:, :, frames])
        if self.end is not None and segment.end is not None:
            frames = np.append(frames, segment.end)
            latents.append(self.end[:, :, np.newaxis])
        if not latents:
            return None
        return Known(np.searchsorted(segment.keyframes, frames), np.concatenate(latents, axis=2))

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
            draw_noise=partial(self._noise_of, segment, condition.shape),
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
        draw_noise: Callable[[], np.ndarray],
        condition: np.ndarray,
        known: Known | None,
        keyframes: np.ndarray | None = None,
        **inputs: np.ndarray,
    ) -> np.ndarray:
        """Latents (1, C, F, h, w) that the stage `unet` makes of noise, from where it is.

        Args:
            draw_noise: gives what it begins with.
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
        walk = self._walk or Walk.begin(draw_noise())
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
            steps = stage.steps(schedule, walk.num_done)
            latents = denoise(velocity, walk, steps, self._rng, known, self._keep_walk)
        self._walk = None
        return latents

    def _keep_walk(self, walk: Walk) -> None:
        self._walk = walk
        self._keep(self.state())
