"""Clips of the synthetic world as arrays on disk, rendered and encoded once."""

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from keyvid_ref import world
from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.conditioning import interpolator_audio
from keyvid_ref.mel import log_mel
from keyvid_ref.presets import Preset
from keyvid_ref.weights import Networks

_log = logging.getLogger(__name__)
_CHUNK = 50  # clips rendered or encoded at a time


@dataclass(frozen=True)
class Clips:
    """N rendered clips.

    frames: (N, T, H, W, 3) uint8; mel: (N, 128, 204) float16; motion, pose: (N, T) float32;
    kind: (N,) int64 index into `world.KINDS`.
    """

    frames: np.ndarray
    mel: np.ndarray
    motion: np.ndarray
    pose: np.ndarray
    kind: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class EncodedClips:
    """N clips as the U-Nets see them, float16 except `motion`.

    latent: (N, T, C, h, w); audio: (N, T, n, A) in the paper's layout; image: (N, T q, D);
    text: (N, L, D); moving: (N, h, w) in [0, 1], how much each place changes during the clip;
    motion: (N, T) float32. `null_*` are the unconditional tokens, without the leading axis.
    """

    latent: np.ndarray
    audio: np.ndarray
    image: np.ndarray
    text: np.ndarray
    moving: np.ndarray
    motion: np.ndarray
    null_audio: np.ndarray
    null_image: np.ndarray
    null_text: np.ndarray

    def __len__(self) -> int:
        return len(self.motion)


def render_clips(folder: Path, seeds: range, preset: Preset, workers: int) -> Clips:
    """The clips of `seeds`, rendered into `folder` unless they lie there already."""
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _log.info("rendering %d clips into %s", len(seeds), folder)
        count, frames = len(seeds), preset.frames
        arrays = {
            "frames": _create(
                folder, "frames", (count, frames, preset.height, preset.width, 3), np.uint8
            ),
            "mel": _create(folder, "mel", (count, 128, 204), np.float16),
            "motion": _create(folder, "motion", (count, frames), np.float32),
            "pose": _create(folder, "pose", (count, frames), np.float32),
            "kind": _create(folder, "kind", (count,), np.int64),
        }
        chunks = [seeds[i : i + _CHUNK] for i in range(0, count, _CHUNK)]
        sizes = [(preset.height, preset.width)] * len(chunks)
        with ProcessPoolExecutor(workers) as pool:
            for i, rendered in enumerate(pool.map(_render_chunk, chunks, sizes)):
                for name, values in rendered.items():
                    arrays[name][i * _CHUNK : i * _CHUNK + len(values)] = values
        (folder / "complete").touch()
    return Clips(**{name: _load(folder, name) for name in Clips.__dataclass_fields__})


def _render_chunk(seeds: range, size: tuple[int, int]) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    kinds = list(world.KINDS)
    clips = [world.make_clip(seed, *size) for seed in seeds]
    waveforms = torch.from_numpy(np.stack([clip.waveform for clip in clips]))
    return {
        "frames": np.stack([clip.frames for clip in clips]),
        "mel": log_mel(waveforms).numpy().astype(np.float16),
        "motion": np.stack([clip.motion for clip in clips]),
        "pose": np.stack([clip.pose for clip in clips]),
        "kind": np.array([kinds.index(clip.kind) for clip in clips]),
    }


@torch.no_grad()
def encode_clips(
    folder: Path, clips: Clips, networks: Networks, prompts: dict[str, Tensor], preset: Preset
) -> EncodedClips:
    """`clips` through the frozen encoders, into `folder` unless they lie there already.

    Args:
        prompts: tokens (1, L) int64 of each kind's prompt and of "" (no prompt).
    """
    if not (folder / "encoded").exists():
        _log.info("encoding %d clips into %s", len(clips), folder)
        device = next(networks.vae.parameters()).device
        chunks: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(clips), _CHUNK):
            part = slice(start, start + _CHUNK)
            frames = to_pixels(clips.frames[part], device)  # (n, T, 3, H, W)
            latent = torch.stack([_latents(networks, clip) for clip in frames])
            mel = torch.from_numpy(clips.mel[part].astype(np.float32)).to(device)
            encoded = {
                "latent": latent,
                "audio": encode_audio(networks, mel, preset),
                "image": encode_image(networks, frames[:, 0], preset),
                "moving": _moving_places(latent),
            }
            for name, values in encoded.items():
                chunks.setdefault(name, []).append(values.cpu().numpy().astype(np.float16))
        text = {
            kind: networks.text_encoder(tokens.to(device))[0].cpu().numpy().astype(np.float16)
            for kind, tokens in prompts.items()
        }
        silence = torch.zeros(1, 128, 204, device=device)
        grey = torch.zeros(1, 3, preset.height, preset.width, device=device)
        arrays = {name: np.concatenate(parts) for name, parts in chunks.items()} | {
            "text": np.stack([text[list(world.KINDS)[kind]] for kind in clips.kind]),
            "motion": np.asarray(clips.motion),
            "null_text": text[""],
            "null_audio": encode_audio(networks, silence, preset)[0].cpu().numpy(),
            "null_image": encode_image(networks, grey, preset)[0].cpu().numpy(),
        }
        for name, values in arrays.items():
            np.save(folder / f"encoded_{name}.npy", values)
        (folder / "encoded").touch()
    fields = EncodedClips.__dataclass_fields__
    return EncodedClips(**{name: _load(folder, f"encoded_{name}") for name in fields})


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU that imitates it takes five times as long."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def to_pixels(frames: np.ndarray, device: torch.device) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.array(frames)).to(device).movedim(-1, -3).float() / 127.5 - 1


def encode_audio(networks: Networks, mel: Tensor, preset: Preset) -> Tensor:
    """(N, 128, 204) to each frame's own audio tokens, (N, T, n, A)."""
    return interpolator_audio(networks.audio_encoder(mel[:, None]), preset.frames, preset.layout)


def encode_image(networks: Networks, image: Tensor, preset: Preset) -> Tensor:
    """(N, 3, H, W) in [-1, 1] to image tokens (N, T q, D)."""
    pixels = clip_preprocess(image, preset.clip_vision.image_size)
    return networks.resampler(networks.clip_vision(pixels))


def _latents(networks: Networks, frames: Tensor) -> Tensor:
    """(T, 3, H, W) to posterior means (T, C, h, w); a frame like the one before is not new work."""
    changed = (frames[1:] != frames[:-1]).flatten(1).any(dim=1)
    new = torch.cat([changed.new_ones(1), changed])
    device = frames.device
    with torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device)):
        latents = networks.vae.encode_moments(frames[new]).chunk(2, dim=1)[0].float()
    return latents[new.cumsum(0) - 1]


def _moving_places(latent: Tensor) -> Tensor:
    """(N, T, C, h, w) to (N, h, w): 0 where nothing happens, 1 where the scene moves."""
    change = (latent - latent[:, :1]).abs().mean(dim=2).amax(dim=1)
    return (change / 0.5).clamp(max=1)


def _create(folder: Path, name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    path = folder / f"{name}.npy"
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def _load(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"{name}.npy", mmap_mode="r")
