"""What each network of a preset is trained on: its loss on a batch of the synthetic world."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.keyframes import select_keyframes
from keyvid_ref.presets import Preset
from keyvid_ref.schedule import noise_schedule
from keyvid_ref.train_data import Clips, EncodedClips, to_pixels
from keyvid_ref.vae import VAE
from keyvid_ref.weights import Networks

Loss = Callable[[nn.Module, np.random.Generator], Tensor]


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 where it helps; on a CPU without fused attention, whose backward is slow there."""
    backends = [SDPBackend.MATH] if device.type == "cpu" else list(_FUSED_BACKENDS)
    with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(backends):
        yield


_FUSED_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


def vae_loss(clips: Clips, device: torch.device, batch: int = 32) -> Loss:
    """Reconstruction of frames: absolute and squared error, edges, and a weak KL term."""

    def loss(vae: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(vae, VAE)
        clip, frame = rng.integers(len(clips), size=batch), rng.integers(0, 48, size=batch)
        frames = np.stack([clips.frames[i, j] for i, j in zip(clip, frame, strict=True)])
        image = to_pixels(frames, device)
        with mixed_precision(device):
            mean, log_variance = vae.encode_moments(image).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            decoded = vae.decode(latent).float()
        error = decoded - image
        edges = _differences(decoded) - _differences(image)
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        return error.abs().mean() + error.square().mean() + edges.abs().mean() + 1e-6 * (
            divergence.mean()
        )  # fmt: skip

    return loss


def _differences(image: Tensor) -> Tensor:
    """Differences between neighbouring pixels along both axes, flattened."""
    return torch.cat([image.diff(dim=2).flatten(), image.diff(dim=3).flatten()])


@torch.no_grad()
def latent_statistics(vae: VAE, clips: Clips, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the posterior means, per channel, over 64 clips."""
    frames = to_pixels(clips.frames[: min(64, len(clips)), ::8], device).flatten(0, 1)
    mean = vae.encode_moments(frames).chunk(2, dim=1)[0]
    return mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3))


class ClipTrainer(nn.Module):
    """Text and image encoders trained to agree on what is seen, and the resampler to keep it.

    The contrastive part pairs a clip's first frame with its kind's prompt; the resampler learns to
    carry the picture: each query's token predicts its share of a coarse copy of the frame.
    """

    coarse_size = (8, 12)

    def __init__(self, networks: Networks, preset: Preset) -> None:
        super().__init__()
        self.text, self.vision = networks.text_encoder, networks.clip_vision
        self.resampler = networks.resampler
        config = preset.resampler
        pixels = 3 * self.coarse_size[0] * self.coarse_size[1]
        self.to_coarse = nn.Linear(config.output_dim, pixels // config.queries)
        self.temperature = nn.Parameter(torch.tensor(10.0))


def clip_loss(
    clips: Clips,
    prompts: Tensor,
    end: Tensor,
    preset: Preset,
    device: torch.device,
    batch: int = 24,
) -> Loss:
    """Agreement of image and text, and reconstruction from the resampled image tokens.

    Args:
        prompts: (kinds, L) tokens of the kinds' prompts; end: (kinds,) place of their last token.
    """

    def loss(module: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(module, ClipTrainer)
        chosen = rng.integers(len(clips), size=batch)
        image = to_pixels(np.stack([clips.frames[i, rng.integers(48)] for i in chosen]), device)
        kind = torch.from_numpy(clips.kind[chosen]).to(device)
        seen = module.vision(clip_preprocess(image, preset.clip_vision.image_size))
        tokens = module.resampler(seen)
        text = module.text(prompts)[torch.arange(len(prompts)), end] @ module.text.text_projection
        picture = seen[:, 0] @ module.vision.proj
        similarity = F.normalize(picture, dim=-1) @ F.normalize(text, dim=-1).T
        agreement = F.cross_entropy(module.temperature * similarity, kind)
        coarse = F.adaptive_avg_pool2d(image, module.coarse_size).flatten(1)
        predicted = module.to_coarse(tokens).unflatten(1, (preset.frames, -1)).flatten(2)
        return agreement + (predicted - coarse[:, None]).abs().mean()

    return loss


class AudioTrainer(nn.Module):
    """The audio trunk with a head that reads each frame's own tokens."""

    def __init__(self, networks: Networks, preset: Preset) -> None:
        super().__init__()
        self.encoder = networks.audio_encoder
        self._frames = preset.frames
        self.head = nn.Linear((1 + preset.audio.frequency_patches) * preset.audio.width, 2)

    def forward(self, mel: Tensor) -> Tensor:
        """(N, 1, 128, 204) to (N, T, 2): motion and pose of each frame."""
        tokens = self.encoder(mel)
        patches = tokens[:, 1:].unflatten(1, (-1, self._frames)).transpose(1, 2).flatten(2)
        own = torch.cat([tokens[:, :1].expand(-1, self._frames, -1), patches], dim=2)
        return self.head(own)


def audio_loss(clips: Clips, device: torch.device, batch: int = 16) -> Loss:
    """Motion and pose of each frame from its own audio tokens."""

    def loss(module: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        target = np.stack([clips.motion[chosen], clips.pose[chosen]], axis=-1)
        predicted = module(_mel(clips, chosen, device)[:, None])
        return F.mse_loss(predicted, torch.from_numpy(target).to(device))

    return loss


def localizer_loss(clips: Clips, device: torch.device, batch: int = 16) -> Loss:
    """The motion curve from the sound (paper, section 3.1)."""

    def loss(module: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        mel = _mel(clips, chosen, device)[:, None, :, :198]
        return F.mse_loss(module(mel), torch.from_numpy(clips.motion[chosen]).to(device))

    return loss


def _mel(clips: Clips, chosen: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(clips.mel[chosen].astype(np.float32)).to(device)


def generator_loss(
    clips: EncodedClips, preset: Preset, device: torch.device, batch: int = 8
) -> Loss:
    """Velocity loss on sets of keyframes, conditioned on the first frame repeated."""

    def loss(unet: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        index = np.stack([_keyframe_set(clips.motion[i], preset, rng) for i in chosen])
        sample = _Sample(clips, chosen, index, preset, device, rng)
        condition = sample.tensor(clips.latent, np.zeros_like(index))
        fps = torch.full((batch,), preset.keyframe_fps, device=device)
        frame_index = torch.from_numpy(index).to(device)
        return _velocity_loss(unet, sample, condition, fps, frame_index, preset, rng)

    return loss


def interpolator_loss(
    clips: EncodedClips, preset: Preset, device: torch.device, num_frames: int, batch: int
) -> Loss:
    """Velocity loss on runs of `num_frames` frames, conditioned on the keyframes among them."""

    def loss(unet: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        start = rng.integers(preset.frames - num_frames + 1, size=(batch, 1))
        index = start + np.arange(num_frames)
        keyframes = [_keyframe_set(clips.motion[i], preset, rng) for i in chosen]
        is_key = np.stack([np.isin(row, keys) for row, keys in zip(index, keyframes, strict=True)])
        sample = _Sample(clips, chosen, index, preset, device, rng)
        # Generated keyframes are not perfect; a little noise keeps the interpolator from trusting
        # them to the last digit.
        noise = torch.randn_like(sample.latent) * float(rng.uniform(0, 0.1))
        mask = torch.from_numpy(is_key).to(device)[:, None, :, None, None]
        condition = (sample.latent + noise) * mask
        fps = torch.full((batch,), preset.fps, device=device)
        return _velocity_loss(unet, sample, condition, fps, None, preset, rng)

    return loss


def _keyframe_set(motion: np.ndarray, preset: Preset, rng: np.random.Generator) -> np.ndarray:
    """(K,) indices: mostly the clip's keyframes, jittered, else any set with 0 in it."""
    if rng.random() < 0.6:
        keys = select_keyframes(motion, preset.keyframes)
        jitter = rng.integers(-1, 2, size=len(keys)) * (rng.random(len(keys)) < 0.3)
        jitter[0] = 0
        moved = np.unique(np.clip(keys + jitter, 0, preset.frames - 1))
        if len(moved) == preset.keyframes:
            return moved
    others = 1 + rng.permutation(preset.frames - 1)[: preset.keyframes - 1]
    return np.concatenate([[0], np.sort(others)])


class _Sample:
    """A batch of frames with their conditions, each dropped now and then for guidance."""

    def __init__(
        self,
        clips: EncodedClips,
        chosen: np.ndarray,
        index: np.ndarray,
        preset: Preset,
        device: torch.device,
        rng: np.random.Generator,
    ) -> None:
        self._chosen, self._device = chosen, device
        self.latent = self.tensor(clips.latent, index)  # (B, C, F, h, w)
        image = np.reshape(clips.image, (len(clips), preset.frames, preset.unet.image_tokens, -1))
        null_image = np.reshape(clips.null_image, image.shape[1:])
        dropped = rng.random((3, len(chosen))) < np.array([[0.3], [0.1], [0.15]])
        rows = {"text": [], "image": [], "audio": []}  # type: dict[str, list[np.ndarray]]
        for i, clip in enumerate(chosen):
            no_text, no_image, no_audio = dropped[:, i]
            rows["text"].append(clips.null_text if no_text else clips.text[clip])
            rows["image"].append((null_image if no_image else image[clip])[index[i]])
            rows["audio"].append((clips.null_audio if no_audio else clips.audio[clip])[index[i]])
        text, image_rows, audio = (self._stack(rows[key]) for key in ("text", "image", "audio"))
        self.context = torch.cat([text, image_rows.flatten(1, 2)], dim=1)
        self.audio = audio
        moving = self._stack([clips.moving[clip] for clip in chosen])
        self.weight = 1 + 4 * moving[:, None, None]  # (B, 1, 1, h, w)

    def tensor(self, latents: np.ndarray, index: np.ndarray) -> Tensor:
        """Latents of the frames `index` (B, F), as (B, C, F, h, w)."""
        rows = [latents[clip][frames] for clip, frames in zip(self._chosen, index, strict=True)]
        return self._stack(rows).transpose(1, 2)

    def _stack(self, rows: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(rows).astype(np.float32)).to(self._device)


def _velocity_loss(
    unet: nn.Module,
    sample: _Sample,
    condition: Tensor,
    fps: Tensor,
    frame_index: Tensor | None,
    preset: Preset,
    rng: np.random.Generator,
) -> Tensor:
    """Weighted squared error of the velocity at random timesteps, a quarter of them near 999."""
    schedule = noise_schedule(preset.dynamic_rescale)
    batch = len(sample.latent)
    late = rng.random(batch) < 0.25
    timestep = torch.from_numpy(np.where(late, rng.integers(850, 1000, batch),
                                         rng.integers(0, 1000, batch)))  # fmt: skip
    clean = sample.latent * _row(schedule.rescale[timestep], sample.latent)
    signal = _row(schedule.alphas_cumprod[timestep].sqrt(), clean)
    spread = _row((1 - schedule.alphas_cumprod[timestep]).sqrt(), clean)
    noise = torch.randn_like(clean)
    noisy = signal * clean + spread * noise
    velocity = signal * noise - spread * clean
    with mixed_precision(clean.device):
        predicted = unet(torch.cat([noisy, condition], dim=1), timestep.to(clean.device),
                         sample.context, sample.audio, fps, frame_index)  # fmt: skip
    error = (predicted.float() - velocity).square() * sample.weight
    return error.mean() / sample.weight.mean()


def _row(values: Tensor, like: Tensor) -> Tensor:
    """(B,) float64 to (B, 1, 1, 1, 1) of the dtype and device of `like`."""
    return values.to(like)[:, None, None, None, None]
