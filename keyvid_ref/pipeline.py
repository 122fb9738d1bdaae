"""The reference pipeline: image and sound to 48 frames, written plainly and without shortcuts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from keyvid.sampling import Sampling, Settings, UNetSampling, resolve
from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.conditioning import generator_audio, generator_image, interpolator_audio
from keyvid_ref.keyframes import select_keyframes
from keyvid_ref.mel import log_mel
from keyvid_ref.presets import Preset
from keyvid_ref.schedule import SAMPLERS, noise_schedule, sampling_timesteps
from keyvid_ref.unet import UNet
from keyvid_ref.weights import Networks


@dataclass(frozen=True)
class ReferenceClip:
    """What the pipeline made.

    frames: (T, H, W, 3) uint8; latents: (1, C, T, h, w) float32, scaled; keyframes: (K,) int64;
    motion: (T,) float32, the localizer's scores.
    """

    frames: npt.NDArray[np.uint8]
    latents: npt.NDArray[np.float32]
    keyframes: npt.NDArray[np.int64]
    motion: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Conditions:
    """Tokens of the four guidance branches: nothing, image, image + text, image + text + audio.

    text: (4, N, D); image: (4, T*Q, D); audio: (4, 1 + P*T, A).
    """

    text: Tensor
    image: Tensor
    audio: Tensor


class ReferencePipeline:
    """Image and sound to a clip with the networks of `preset`."""

    def __init__(self, networks: Networks, preset: Preset, tokenizer: Tokenizer) -> None:
        self.networks = networks
        self.preset = preset
        self.tokenizer = tokenizer
        self.schedule = noise_schedule(preset.dynamic_rescale)

    @torch.no_grad()
    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        waveform: npt.NDArray[np.float32],
        *,
        prompt: str = "",
        seed: int = 0,
        sampling: Sampling | None = None,
        keyframes: npt.NDArray[np.int64] | None = None,
    ) -> ReferenceClip:
        """Animate `image` to `waveform`.

        Args:
            image: (H, W, 3) of the preset's size.
            waveform: (n,) in [-1, 1], 2 s at 16 kHz.
            sampling: the preset's without it.
            keyframes: (K,) ascending, 0 first; chosen from the motion scores without it.
        Raises:
            SettingsError: a setting has no valid value; names the valid ones.
        """
        sampling = resolve(Settings(), sampling or self.preset.sampling)  # which checks it
        rng = np.random.Generator(np.random.PCG64(seed))
        picture = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
        mel = log_mel(torch.from_numpy(waveform))

        motion = self.score_motion(mel)
        if keyframes is None:
            keyframes = select_keyframes(motion, self.preset.keyframes)
        conditions = self.encode_conditions(picture, mel, prompt)
        first_frame = self.encode_image(picture, rng)
        keyframe_latents = self.generate_keyframes(
            first_frame, torch.from_numpy(keyframes), conditions, sampling, rng
        )
        latents = self.interpolate(
            keyframe_latents, torch.from_numpy(keyframes), conditions, sampling, rng
        )
        return ReferenceClip(self.decode(latents), latents.numpy(), keyframes, motion)

    def score_motion(self, mel: Tensor) -> npt.NDArray[np.float32]:
        """Motion score (T,) of each frame, heard from `mel` (128, 204)."""
        num_frames = self.preset.localizer.audio.mel_frames
        motion: npt.NDArray[np.float32]
        motion = self.networks.localizer(mel[None, None, :, :num_frames])[0].numpy()
        return motion

    def encode_conditions(self, picture: Tensor, mel: Tensor, prompt: str) -> Conditions:
        """Tokens of `picture` (1, 3, H, W) in [-1, 1], `mel` (128, 204) and `prompt`.

        Their absence is the zero picture, a normalised mel of zeros and the empty prompt.
        """
        networks = self.networks
        pictures = torch.cat([torch.zeros_like(picture), picture])
        pixels = clip_preprocess(pictures, self.preset.clip_vision.image_size)
        no_image, image = networks.resampler(networks.clip_vision(pixels))
        no_audio, audio = networks.audio_encoder(torch.stack([torch.zeros_like(mel), mel])[:, None])
        token_ids = [self.tokenizer.encode(text).ids for text in ("", prompt)]
        no_text, text = networks.text_encoder(torch.tensor(token_ids))
        return Conditions(
            text=torch.stack([no_text, no_text, text, text]),
            image=torch.stack([no_image, image, image, image]),
            audio=torch.stack([no_audio, no_audio, no_audio, audio]),
        )

    def encode_image(self, picture: Tensor, rng: np.random.Generator) -> Tensor:
        """Scaled latent (1, C, h, w) of `picture`: a sample of the posterior or its mean."""
        latent, log_variance = self.networks.vae.encode_moments(picture).chunk(2, 1)
        if self.preset.latent_sample:
            deviation = torch.exp(0.5 * log_variance.clamp(-30, 20))
            latent = latent + deviation * _draw(rng, latent.shape)
        return self.preset.latent_scale * latent

    def generate_keyframes(
        self,
        first_frame: Tensor,
        keyframes: Tensor,
        conditions: Conditions,
        sampling: Sampling,
        rng: np.random.Generator,
    ) -> Tensor:
        """Keyframe latents (1, C, K, h, w) that continue `first_frame` (1, C, h, w)."""
        preset = self.preset
        num_keyframes = len(keyframes)
        indices = keyframes.expand(4, -1)
        image = generator_image(conditions.image, indices, preset.frames)
        condition = first_frame[:, :, None].expand(-1, -1, num_keyframes, -1, -1)
        network_inputs: dict[str, Any] = {
            "context": torch.cat([conditions.text, image], 1),
            "audio": generator_audio(conditions.audio, indices, preset.frames, preset.layout),
            "fps": torch.full((4,), preset.keyframe_fps),
            "frame_index": indices,
        }
        noise = _draw(rng, condition.shape)
        network = self.networks.generator
        return self._sample(network, noise, condition, network_inputs, sampling.generator, rng)

    def interpolate(
        self,
        keyframe_latents: Tensor,
        keyframes: Tensor,
        conditions: Conditions,
        sampling: Sampling,
        rng: np.random.Generator,
    ) -> Tensor:
        """Latents (1, C, T, h, w) of all frames through `keyframe_latents` (1, C, K, h, w)."""
        preset = self.preset
        batch, channels, _, height, width = keyframe_latents.shape
        condition = torch.zeros(batch, channels, preset.frames, height, width)
        condition[:, :, keyframes] = keyframe_latents
        network_inputs: dict[str, Any] = {
            "context": torch.cat([conditions.text, conditions.image], 1),
            "audio": interpolator_audio(conditions.audio, preset.frames, preset.layout),
            "fps": torch.full((4,), preset.fps),
            "temporal": sampling.temporal,
        }
        network = self.networks.interpolator
        if sampling.temporal == "windows":
            window, stride = network.config.window, network.config.window_stride
            noise = draw_windowed_noise(rng, condition.shape, window, stride)
        else:
            noise = _draw(rng, condition.shape)
        return self._sample(network, noise, condition, network_inputs, sampling.interpolator, rng)

    def decode(self, latents: Tensor) -> npt.NDArray[np.uint8]:
        """Frames (T, H, W, 3) of scaled latents (1, C, T, h, w)."""
        frames = latents[0].transpose(0, 1) / self.preset.latent_scale  # (T, C, h, w)
        pixels = torch.cat([self.networks.vae.decode(frame[None]) for frame in frames])
        pixels = ((pixels + 1) / 2).clamp(0, 1) * 255
        decoded: npt.NDArray[np.uint8]
        decoded = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return decoded

    def _sample(
        self,
        network: UNet,
        noise: Tensor,
        condition: Tensor,
        network_inputs: dict[str, Any],
        sampling: UNetSampling,
        rng: np.random.Generator,
    ) -> Tensor:
        """Denoise `noise` (1, C, F, h, w) beside the latents `condition` of the same shape."""

        def predict_velocity(latent: Tensor, timestep: int) -> Tensor:
            branches = network(
                torch.cat([latent, condition], 1).expand(4, -1, -1, -1, -1),
                torch.full((4,), timestep),
                **network_inputs,
            )
            return guide(branches, sampling.scales(timestep), sampling.guidance_rescale)

        timesteps = sampling_timesteps(sampling.steps, sampling.spacing)
        return SAMPLERS[sampling.solver](
            predict_velocity,
            noise,
            self.schedule,
            timesteps,
            sampling.eta,
            lambda: _draw(rng, noise.shape),
        )


def guide(velocities: Tensor, scales: tuple[float, float, float], rescale: float) -> Tensor:
    """Guided velocity from those of the four branches (released guidance, with rescale).

    Args:
        velocities: (4, ...) of nothing, image, image + text, image + text + audio.
        scales: of image, text and audio.
        rescale: share of the result whose deviation is set to that of the last branch.
    Returns:
        (1, ...).
    """
    nothing, image, text, audio = velocities.chunk(4)
    guided = (
        nothing
        + scales[0] * (image - nothing)
        + scales[1] * (text - image)
        + scales[2] * (audio - text)
    )
    return rescale * guided * (audio.std() / guided.std()) + (1 - rescale) * guided


def draw_windowed_noise(
    rng: np.random.Generator, shape: torch.Size, window: int, stride: int
) -> Tensor:
    """Initial noise (1, C, T, h, w) of FreeNoise (arXiv 2310.15169, section 3.2).

    The first window is fresh; each later block of `stride` frames is the block one window earlier
    with its frames shuffled.
    """
    batch, channels, num_frames, height, width = shape
    noise = _draw(rng, torch.Size((batch, channels, window, height, width)))
    for start in range(window, num_frames, stride):
        order = start - window + torch.from_numpy(rng.permutation(stride))
        noise = torch.cat([noise, noise[:, :, order]], 2)
    return noise


def _draw(rng: np.random.Generator, shape: torch.Size) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32))
