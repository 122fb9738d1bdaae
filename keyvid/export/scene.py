"""One clip of the synthetic world, encoded: real inputs of each stage."""

from copy import copy
from functools import cached_property

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from keyvid_ref.avsync import prepare_frames
from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.conditioning import generator_audio, generator_image, interpolator_audio
from keyvid_ref.keyframes import uniform_keyframes
from keyvid_ref.mel import log_mel
from keyvid_ref.pipeline import Conditions, ReferencePipeline
from keyvid_ref.presets import Preset
from keyvid_ref.schedule import noise_schedule
from keyvid_ref.weights import Networks
from keyvid_ref.world import world

# Mostly noise, noise and picture about equally strong, hardly any noise.
TIMESTEPS = (999, 500, 1)


class Scene:
    """A picture, its sound and the word for it, as far as each stage takes them."""

    def __init__(self, networks: Networks, preset: Preset, tokenizer: Tokenizer) -> None:
        self._pipeline = ReferencePipeline(networks, preset, tokenizer)
        self._preset = preset
        self._clip = world.make_clip(world.TEST_SEEDS[0], preset.height, preset.width)
        self._timestep = TIMESTEPS[1]

    def at(self, timestep: int) -> "Scene":
        """The same with as much noise in the inputs of the U-Nets as there is at `timestep`."""
        scene = copy(self)
        scene._timestep = timestep
        return scene

    @property
    def tokens(self) -> Tensor:
        """(1, N) int64 tokens of the prompt."""
        return torch.tensor([self._pipeline.tokenizer.encode(self._clip.kind).ids])

    @property
    def image(self) -> Tensor:
        """(1, 3, H, W) in [-1, 1]."""
        return torch.from_numpy(self._clip.frames[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1

    @property
    def pixels(self) -> Tensor:
        """(1, 3, S, S) CLIP-normalised."""
        return clip_preprocess(self.image, self._preset.clip_vision.image_size)

    @property
    def mel(self) -> Tensor:
        """(1, 1, 128, 204) normalised log mel."""
        return log_mel(torch.from_numpy(self._clip.waveform))[None, None]

    @property
    def localizer_mel(self) -> Tensor:
        """(1, 1, 128, 198) normalised log mel, without its padding."""
        return self.mel[..., : self._preset.localizer.audio.mel_frames]

    @cached_property
    def latent(self) -> Tensor:
        """(1, C, h, w) posterior mean of the picture, not scaled."""
        return self._pipeline.networks.vae.encode_moments(self.image).chunk(2, dim=1)[0]

    def generator_inputs(self, branches: int) -> tuple[Tensor, ...]:
        """Inputs of the generator for the last `branches` guidance branches."""
        preset, conditions = self._preset, self._conditions
        keyframes = uniform_keyframes(preset.frames, preset.keyframes)
        index = torch.from_numpy(keyframes).expand(4, -1)
        image = generator_image(conditions.image, index, preset.frames)
        condition = self._first_frame.expand(-1, -1, preset.keyframes, -1, -1)
        audio = generator_audio(conditions.audio, index, preset.frames, preset.layout)
        return (
            self._noisy(condition),
            torch.tensor([self._timestep]),
            torch.cat([conditions.text, image], dim=1)[-branches:],
            audio[-branches:],
            torch.tensor([preset.keyframe_fps]),
            index[:1],
        )

    def interpolator_inputs(self, branches: int) -> tuple[Tensor, ...]:
        """Inputs of the interpolator for the last `branches` guidance branches."""
        preset, conditions = self._preset, self._conditions
        is_keyframe = torch.zeros(preset.frames, 1, 1)
        is_keyframe[uniform_keyframes(preset.frames, preset.keyframes)] = 1
        condition = self._first_frame * is_keyframe
        audio = interpolator_audio(conditions.audio, preset.frames, preset.layout)
        return (
            self._noisy(condition),
            torch.tensor([self._timestep]),
            torch.cat([conditions.text, conditions.image], dim=1)[-branches:],
            audio[-branches:],
            torch.tensor([preset.fps]),
        )

    @property
    def _first_frame(self) -> Tensor:
        """(1, C, 1, h, w) scaled latent of the picture."""
        return self._preset.latent_scale * self.latent[:, :, None]

    @cached_property
    def _conditions(self) -> Conditions:
        mel = self.mel[0, 0]
        return self._pipeline.encode_conditions(self.image, mel, self._clip.kind)

    def _noisy(self, condition: Tensor) -> Tensor:
        """(1, 2 C, F, h, w): the picture in each frame under noise, beside `condition`."""
        schedule = noise_schedule(self._preset.dynamic_rescale)
        alpha_bar = schedule.alphas_cumprod[self._timestep]
        clean = schedule.rescale[self._timestep] * self._first_frame
        noise = torch.randn(condition.shape, generator=torch.Generator().manual_seed(0))
        noisy = (alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise).float()
        return torch.cat([noisy, condition], dim=1)


class JudgedScene:
    """The same clip as a judge sees and hears it."""

    def __init__(self, audio: nn.Module, video: nn.Module, preset: Preset) -> None:
        self._audio = audio
        self._video = video
        self._preset = preset
        self._clip = world.make_clip(world.TEST_SEEDS[0])

    def at(self, _: int) -> "JudgedScene":
        """The same: a judge sees no noise."""
        return self

    def repeated(self, batch: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Each input as often as a graph takes clips."""
        return tuple(x.repeat(batch, *[1] * (x.dim() - 1)) for x in inputs)

    @property
    def mel(self) -> Tensor:
        """(1, 1, 128, 204) normalised log mel."""
        return log_mel(torch.from_numpy(self._clip.waveform))[None, None]

    @property
    def video(self) -> Tensor:
        """(1, 3, F, H, W) CLIP-normalised frames."""
        chosen = uniform_keyframes(len(self._clip.frames), self._preset.frames)
        frames = torch.from_numpy(self._clip.frames[chosen]).permute(0, 3, 1, 2).float() / 255
        prepared = prepare_frames(frames, self._preset.height, self._preset.width)
        return prepared.transpose(0, 1)[None]

    @cached_property
    def embeddings(self) -> tuple[Tensor, Tensor]:
        """(1, 512) of the sound and (1, 512) of the frames."""
        return self._audio(self.mel), self._video(self.video)
