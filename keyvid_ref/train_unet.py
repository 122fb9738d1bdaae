"""What the U-Nets are trained on: velocities of keyframes and of runs of frames."""

import numpy as np
import torch
from torch import Tensor, nn

from keyvid.sampling import Temporal
from keyvid_ref.keyframes import select_keyframes
from keyvid_ref.presets import Preset
from keyvid_ref.schedule import noise_schedule
from keyvid_ref.train_data import EncodedClips
from keyvid_ref.train_encoders import Loss, mixed_precision


def generator_loss(
    clips: EncodedClips,
    preset: Preset,
    device: torch.device,
    batch: int = 8,
    moving_weight: float = 1.0,
) -> Loss:
    """Velocity loss on sets of keyframes, conditioned on the first frame repeated.

    Args:
        moving_weight: of places where the scene moves; of those that stand still it is 1.
    """

    def loss(unet: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        index = np.stack([_keyframe_set(clips.motion[i], preset, rng) for i in chosen])
        sample = _Sample(clips, chosen, index, preset, device, rng, moving_weight)
        condition = sample.tensor(clips.latent, np.zeros_like(index))
        fps = torch.full((batch,), preset.keyframe_fps, device=device)
        frame_index = torch.from_numpy(index).to(device)
        return _velocity_loss(unet, sample, condition, fps, frame_index, preset, rng)

    return loss


def interpolator_loss(
    clips: EncodedClips,
    preset: Preset,
    device: torch.device,
    num_frames: int,
    batch: int,
    moving_weight: float = 1.0,
) -> Loss:
    """Velocity loss on runs of `num_frames` frames, conditioned on the keyframes among them."""

    def loss(unet: nn.Module, rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(len(clips), size=batch)
        start = rng.integers(preset.frames - num_frames + 1, size=(batch, 1))
        index = start + np.arange(num_frames)
        keyframes = [_keyframe_set(clips.motion[i], preset, rng) for i in chosen]
        is_key = np.stack([np.isin(row, keys) for row, keys in zip(index, keyframes, strict=True)])
        sample = _Sample(clips, chosen, index, preset, device, rng, moving_weight)
        # Generated keyframes are not perfect; a little noise keeps the interpolator from trusting
        # them to the last digit.
        noise = torch.randn_like(sample.latent) * float(rng.uniform(0, 0.15))
        mask = torch.from_numpy(is_key).to(device)[:, None, :, None, None]
        condition = (sample.latent + noise) * mask
        fps = torch.full((batch,), preset.fps, device=device)
        return _velocity_loss(
            unet, sample, condition, fps, None, preset, rng, preset.sampling.temporal
        )

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
        moving_weight: float,
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
        self.weight = 1 + (moving_weight - 1) * moving[:, None, None]  # (B, 1, 1, h, w)

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
    temporal: Temporal = "full",
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
                         sample.context, sample.audio, fps, frame_index, temporal)  # fmt: skip
    error = (predicted.float() - velocity).square() * sample.weight
    return error.mean() / sample.weight.mean()


def _row(values: Tensor, like: Tensor) -> Tensor:
    """(B,) float64 to (B, 1, 1, 1, 1) of the dtype and device of `like`."""
    return values.to(like)[:, None, None, None, None]
