"""What each network is trained on: losses as functions of a batch that is on the device."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.presets import Preset
from keyvid_ref.schedule import NUM_TIMESTEPS, noise_schedule
from keyvid_ref.training.data import Clips
from keyvid_ref.training.loop import mixed_precision

Function = Callable[[Tensor], Tensor]


def autoencoder_loss(
    encode: Function, decode: Function, image: Tensor, generator: torch.Generator
) -> Tensor:
    """Reconstruction of (B, 3, H, W) from a sample of the posterior, and a weak KL term."""
    with mixed_precision(image.device):
        mean, log_variance = encode(image).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        latent = mean + torch.exp(0.5 * log_variance) * _normal(mean.shape, generator)
        decoded = decode(latent).float()
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
    return _reconstruction_error(decoded, image) + 1e-6 * divergence.mean()


def decoder_loss(
    encode: Function, decode: Function, image: Tensor, generator: torch.Generator
) -> Tensor:
    """Reconstruction from latents with noise on them, for the decoder alone.

    Generated latents are never exact; what is left of the noise should not be seen.
    """
    with mixed_precision(image.device):
        with torch.no_grad():
            latent = encode(image).float().chunk(2, dim=1)[0]
        level = 0.2 * _uniform((len(image), 1, 1, 1), generator)
        decoded = decode(latent + level * _normal(latent.shape, generator)).float()
    return _reconstruction_error(decoded, image)


def _reconstruction_error(decoded: Tensor, image: Tensor) -> Tensor:
    """Absolute and squared error, and the absolute error of the edges."""
    error = decoded - image
    edges = torch.cat([error.diff(dim=2).flatten(), error.diff(dim=3).flatten()])
    return error.abs().mean() + error.square().mean() + edges.abs().mean()


class ClipTrainer(nn.Module):
    """Text and image encoders trained to agree on what is seen, and the resampler to keep it.

    The contrastive part pairs a frame with its kind's prompt; the resampler learns to carry the
    picture: each query's token predicts its share of a coarse copy of the frame.
    """

    coarse_size = (8, 12)

    def __init__(self, text: nn.Module, image_encoder: nn.ModuleDict, preset: Preset) -> None:
        super().__init__()
        self.text, self.vision = text, image_encoder["clip"]
        self.resampler = image_encoder["resampler"]
        self._image_size, self._frames = preset.clip_vision.image_size, preset.frames
        config = preset.resampler
        pixels = 3 * self.coarse_size[0] * self.coarse_size[1]
        self.to_coarse = nn.Linear(config.output_dim, pixels // config.queries)
        self.temperature = nn.Parameter(torch.tensor(10.0))

    def loss(self, image: Tensor, kind: Tensor, prompts: Tensor, end: Tensor) -> Tensor:
        """Agreement of image and text, and reconstruction from the resampled image tokens.

        Args:
            image: (B, 3, H, W); kind: (B,) row of `prompts` that it belongs to.
            prompts: (kinds, L) tokens; end: (kinds,) place of their last token.
        """
        seen = self.vision(clip_preprocess(image, self._image_size))
        rows = torch.arange(len(prompts), device=prompts.device)
        text = self.text(prompts)[rows, end] @ self.text.text_projection
        picture = seen[:, 0] @ self.vision.proj
        similarity = F.normalize(picture, dim=-1) @ F.normalize(text, dim=-1).T
        agreement = F.cross_entropy(self.temperature * similarity, kind)
        coarse = F.adaptive_avg_pool2d(image, self.coarse_size).flatten(1)
        predicted = self.to_coarse(self.resampler(seen)).unflatten(1, (self._frames, -1)).flatten(2)
        return agreement + (predicted - coarse[:, None]).abs().mean()


@dataclass(frozen=True)
class Sample:
    """Frames of B clips and what a U-Net is told; each of it is missing now and then, for guidance.

    latent: (B, C, F, h, w); condition: the same; context: (B, L + F q, D); audio: (B, F, n, A);
    moving: (B, 1, 1, h, w), from 0 to 1.
    """

    latent: Tensor
    condition: Tensor
    context: Tensor
    audio: Tensor
    moving: Tensor

    def crop(self, size: tuple[int, int], generator: torch.Generator) -> "Sample":
        """A part of h by w latents of each picture, mostly where something moves."""
        batch, (*_, height, width) = len(self.latent), self.moving.shape
        rows, columns = min(size[0], height), min(size[1], width)
        odds = self.moving.flatten(1) + 0.02
        centre = torch.multinomial(odds, 1, generator=generator)[:, 0]
        back = _uniform((2, batch), generator) * torch.tensor([[rows], [columns]]).to(odds)
        top = (centre // width - back[0].long()).clamp(0, height - rows)
        left = (centre % width - back[1].long()).clamp(0, width - columns)
        at = torch.arange(batch, device=top.device)[:, None, None]
        row = top[:, None, None] + torch.arange(rows, device=top.device)[:, None]
        column = left[:, None, None] + torch.arange(columns, device=top.device)

        def cut(video: Tensor) -> Tensor:
            return video.permute(0, 3, 4, 1, 2)[at, row, column].permute(0, 3, 4, 1, 2)

        return replace(
            self,
            latent=cut(self.latent),
            condition=cut(self.condition),
            moving=cut(self.moving),
        )


def generator_loss(
    unet: nn.Module,
    clips: Clips,
    preset: Preset,
    batch: int,
    generator: torch.Generator,
    moving_weight: float = 1.0,
) -> Tensor:
    """Velocity loss on sets of keyframes, conditioned on the first frame repeated."""
    clip = clips.choose(batch, generator)
    index = _keyframe_sets(clips["keyframes"][clip], preset.frames, generator)
    sample = _draw_sample(clips, clip, index, generator)
    first = clips["latent"][clip, 0].float()[:, :, None].expand_as(sample.latent)
    sample = replace(sample, condition=first)
    fps = preset.keyframe_fps
    return _velocity_loss(unet, sample, fps, index, preset, moving_weight, generator)


def interpolator_loss(
    unet: nn.Module,
    clips: Clips,
    preset: Preset,
    batch: int,
    generator: torch.Generator,
    moving_weight: float = 1.0,
    num_frames: int = 48,
    crop: tuple[int, int] | None = None,
) -> Tensor:
    """Velocity loss on runs of frames, conditioned on the keyframes among them.

    Generated keyframes are not perfect; a little noise on the condition keeps the interpolator
    from trusting them to the last digit.

    Args:
        crop: rows and columns of latents to train on instead of whole frames.
    """
    clip = clips.choose(batch, generator)
    starts = preset.frames - num_frames + 1
    start = torch.randint(starts, (batch, 1), device=clip.device, generator=generator)
    index = start + torch.arange(num_frames, device=clip.device)
    keyframes = _keyframe_sets(clips["keyframes"][clip], preset.frames, generator)
    is_key = (index[:, :, None] == keyframes[:, None]).any(dim=-1)  # (B, F)
    sample = _draw_sample(clips, clip, index, generator)
    level = 0.15 * _uniform((batch, 1, 1, 1, 1), generator)
    noisy = sample.latent + level * _normal(sample.latent.shape, generator)
    sample = replace(sample, condition=noisy * is_key[:, None, :, None, None])
    if crop:
        sample = sample.crop(crop, generator)
    return _velocity_loss(unet, sample, preset.fps, None, preset, moving_weight, generator)


def _keyframe_sets(own: Tensor, num_frames: int, generator: torch.Generator) -> Tensor:
    """(B, K) ascending indices: mostly the clips' `own`, jittered, else any set with 0 in it."""
    batch, num_keyframes = own.shape
    step = torch.randint(-1, 2, own.shape, device=own.device, generator=generator)
    step = step * (_uniform(own.shape, generator) < 0.3)
    step[:, 0] = 0
    moved = (own + step).clamp(0, num_frames - 1).sort(dim=1).values
    order = _uniform((batch, num_frames - 1), generator)
    others = 1 + order.topk(num_keyframes - 1).indices.sort(dim=1).values
    others = torch.cat([torch.zeros_like(others[:, :1]), others], dim=1)
    keep = (_uniform((batch,), generator) < 0.6) & (moved.diff(dim=1) > 0).all(dim=1)
    return torch.where(keep[:, None], moved, others)


def _draw_sample(clips: Clips, clip: Tensor, index: Tensor, generator: torch.Generator) -> Sample:
    """The frames `index` (B, F) of the clips (B,), without a condition yet."""
    row = clip[:, None]
    no_text, no_image, no_audio = (
        _uniform((len(clip), 1, 1, 1), generator) < share for share in (0.3, 0.1, 0.15)
    )
    text = torch.where(no_text[:, 0], clips.null["text"], clips["text"][clip])
    image = torch.where(no_image, clips.null["image"][index], clips["image"][row, index])
    audio = torch.where(no_audio, clips.null["audio"][index], clips["audio"][row, index])
    latent = clips["latent"][row, index].float().transpose(1, 2)
    return Sample(
        latent=latent,
        condition=torch.zeros_like(latent),
        context=torch.cat([text, image.flatten(1, 2)], dim=1).float(),
        audio=audio.float(),
        moving=clips["moving"][clip].float()[:, None, None],
    )


def _velocity_loss(
    unet: nn.Module,
    sample: Sample,
    fps: int,
    frame_index: Tensor | None,
    preset: Preset,
    moving_weight: float,
    generator: torch.Generator,
) -> Tensor:
    """Weighted squared error of the velocity at random timesteps, a quarter of them late."""
    batch, device = len(sample.latent), sample.latent.device
    first = 850 * (_uniform((batch,), generator) < 0.25)
    timestep = first + (_uniform((batch,), generator) * (NUM_TIMESTEPS - first)).long()
    rescale, signal, spread = (
        values[timestep][:, None, None, None, None]
        for values in _schedule(preset.dynamic_rescale, device)
    )
    clean = sample.latent * rescale
    noise = _normal(clean.shape, generator)
    noisy, velocity = signal * clean + spread * noise, signal * noise - spread * clean
    rate = torch.full((batch,), fps, device=device)
    temporal = preset.sampling.temporal if frame_index is None else "full"
    with mixed_precision(device):
        inputs = torch.cat([noisy, sample.condition], dim=1)
        told = (sample.context, sample.audio, rate, frame_index, temporal)
        predicted = unet(inputs, timestep, *told)
    weight = 1 + (moving_weight - 1) * sample.moving
    return ((predicted.float() - velocity).square() * weight).mean() / weight.mean()


@cache
def _schedule(dynamic_rescale: float, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(1000,) float32 each: rescale of the clean latent, its weight, and that of the noise."""
    schedule = noise_schedule(dynamic_rescale)
    kept = schedule.alphas_cumprod
    return tuple(v.to(device).float() for v in (schedule.rescale, kept.sqrt(), (1 - kept).sqrt()))  # type: ignore[return-value]


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, device=generator.device, generator=generator)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, device=generator.device, generator=generator)
