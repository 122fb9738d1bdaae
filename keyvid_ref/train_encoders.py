"""What the autoencoder and the encoders are trained on: their losses on the synthetic world."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.presets import Preset
from keyvid_ref.train_data import Clips, has_fast_bfloat16, to_pixels
from keyvid_ref.vae import VAE
from keyvid_ref.weights import Networks

Loss = Callable[[nn.Module, np.random.Generator], Tensor]


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 where it is fast; on a CPU without fused attention, whose backward is slow in it."""
    fast = has_fast_bfloat16(device)
    backends = [SDPBackend.MATH] if fast and device.type == "cpu" else list(_FUSED_BACKENDS)
    with torch.autocast(device.type, torch.bfloat16, enabled=fast), sdpa_kernel(backends):
        yield


_FUSED_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


def vae_loss(clips: Clips, device: torch.device, batch: int = 32) -> Loss:
    """Reconstruction of frames: absolute and squared error, edges, and a weak KL term."""

    def loss(vae: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(vae, VAE)
        image = _random_frames(clips, batch, device, rng)
        with mixed_precision(device):
            mean, log_variance = vae.encode_moments(image).float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-30, 20)
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            decoded = vae.decode(latent).float()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
        return _reconstruction_error(decoded, image) + 1e-6 * divergence.mean()

    return loss


def decoder_loss(clips: Clips, device: torch.device, batch: int = 32) -> Loss:
    """Reconstruction from scaled latents with noise on them, for the decoder alone.

    Generated latents are never exact; what is left of the noise should not be seen.
    """

    def loss(vae: nn.Module, rng: np.random.Generator) -> Tensor:
        assert isinstance(vae, VAE)
        image = _random_frames(clips, batch, device, rng)
        with mixed_precision(device):
            with torch.no_grad():
                latent = vae.encode_moments(image).float().chunk(2, dim=1)[0]
            level = 0.3 * torch.rand(batch, 1, 1, 1, device=device)
            decoded = vae.decode(latent + level * torch.randn_like(latent)).float()
        return _reconstruction_error(decoded, image)

    return loss


def _random_frames(
    clips: Clips, batch: int, device: torch.device, rng: np.random.Generator
) -> Tensor:
    """(batch, 3, H, W) in [-1, 1]: any frames of any clips."""
    num_clips, num_frames = clips.frames.shape[:2]
    clip, frame = rng.integers(num_clips, size=batch), rng.integers(num_frames, size=batch)
    frames = [clips.frames[i, j] for i, j in zip(clip, frame, strict=True)]
    return to_pixels(np.stack(frames), device)


def _reconstruction_error(decoded: Tensor, image: Tensor) -> Tensor:
    """Absolute and squared error, and the absolute error of the edges."""
    error = decoded - image
    edges = _differences(decoded) - _differences(image)
    return error.abs().mean() + error.square().mean() + edges.abs().mean()


def _differences(image: Tensor) -> Tensor:
    """Differences between neighbouring pixels along both axes, flattened."""
    return torch.cat([image.diff(dim=2).flatten(), image.diff(dim=3).flatten()])


def sample_frames(clips: Clips, device: torch.device) -> Tensor:
    """(N, 3, H, W) in [-1, 1]: a few frames of some 200 clips."""
    step = max(1, len(clips) // 200)
    return to_pixels(clips.frames[::step, ::12], device).flatten(0, 1)


@torch.no_grad()
def latent_scale(vae: VAE, clips: Clips, device: torch.device) -> tuple[Tensor, Tensor]:
    """Per channel: the mean of the posterior means, and what to divide by.

    Dividing by the root of the deviation makes the loud channels (colour) less loud and leaves the
    faint ones (detail) fainter than they, unit variance on the whole.
    """
    mean = vae.encode_moments(sample_frames(clips, device)).chunk(2, dim=1)[0]
    std = mean.std(dim=(0, 2, 3))
    return mean.mean(dim=(0, 2, 3)), (std * std.mean()).sqrt()


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


def localizer_loss(
    clips: Clips, device: torch.device, batch: int = 16, slope_weight: float = 0.0
) -> Loss:
    """The motion curve from the sound (paper, section 3.1).

    With a `slope_weight` the curve's steps from frame to frame count too: where a movement is slow
    its peak is broad, and small errors of height move the highest frame.
    """

    def loss(module: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        mel = _mel(clips, chosen, device)[:, None, :, :198]
        error = module(mel) - torch.from_numpy(clips.motion[chosen]).to(device)
        return error.square().mean() + slope_weight * error.diff(dim=1).square().mean()

    return loss


def _mel(clips: Clips, chosen: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(clips.mel[chosen].astype(np.float32)).to(device)
