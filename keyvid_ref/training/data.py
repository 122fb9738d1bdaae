"""Clips of the synthetic world to train on: drawn, then encoded, into arrays that grow."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keyvid_ref.clip_preprocess import clip_preprocess
from keyvid_ref.conditioning import interpolator_audio
from keyvid_ref.keyframes import select_keyframes
from keyvid_ref.mel import log_mel
from keyvid_ref.presets import Preset
from keyvid_ref.training.loop import mixed_precision
from keyvid_ref.world import world
from keyvid_ref.world.recordings import load_recordings

_log = logging.getLogger(__name__)
CHUNK = 20  # clips drawn or encoded at a time
_LOOK_EVERY_S = 20.0  # for more clips, while training
SPLITS = {"validation": world.VALIDATION_SEEDS[:64], "train": world.TRAIN_SEEDS}
DRAWN, _ENCODED = "drawn", "encoded"  # files that say how many clips are finished


class Clips:
    """Clips on a device, as many as are finished: their arrays by name, one row a clip.

    N clips of T frames. Drawn: frames (N, T, H, W, 3) uint8; mel (N, 128, 204) float16; motion,
    pose (N, T) float32; kind (N,) int64 index into `world.KINDS`. Encoded, float16: latent
    (N, T, C, h, w); audio (N, T, n, A) in the preset's layout; image (N, T, q, D); text (N, L, D);
    moving (N, h, w), from 0 to 1, how much each place changes; and keyframes (N, K) int64.

    `null` holds the unconditional row of text, image and audio.
    On a CPU they stay in their files, of which a batch reads what it needs.
    """

    def __init__(
        self,
        folder: Path,
        names: tuple[str, ...],
        device: torch.device,
        at_least: int = 100,
        at_most: int | None = None,
    ) -> None:
        """Wait until `at_least` clips, or all that there will be, are in `folder`."""
        self.device, self._folder, self._names, self._at_most = device, folder, names, at_most
        self._stage = _ENCODED if "latent" in names else DRAWN
        self._arrays: dict[str, Tensor] = {}
        self._count = 0

        def enough() -> bool:
            done = num_finished(folder, self._stage)
            return done > 0 and done >= min(at_least, len(self._stored(names[0])))

        wait_for(enough, f"{folder}: clips to be {self._stage}")
        self._take_in()
        self.null = {
            path.stem.removeprefix("null_"): torch.from_numpy(np.load(path)).to(device)
            for path in folder.glob("null_*.npy")
        }

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        return self._arrays[name]

    def choose(self, batch: int, generator: torch.Generator) -> Tensor:
        """(B,) int64: clips at random, among them new ones as they are finished."""
        if time.monotonic() - self._looked > _LOOK_EVERY_S:
            self._take_in()
        return torch.randint(len(self), (batch,), device=self.device, generator=generator)

    def choose_frames(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Clips (B,) and in each of them a frame, (B, 3, H, W) in [-1, 1]."""
        clip, frames = self.choose(batch, generator), self["frames"]
        frame = torch.randint(frames.shape[1], (batch,), device=self.device, generator=generator)
        return clip, to_pixels(frames[clip, frame])

    def _stored(self, name: str) -> Tensor:
        """An array as it is on disk, mapped."""
        array = np.load(self._folder / f"{name}.npy", mmap_mode="c")
        return torch.from_numpy(array[: self._at_most])

    def _take_in(self) -> None:
        self._looked = time.monotonic()
        stored = {name: self._stored(name) for name in self._names}
        ready = min(num_finished(self._folder, self._stage), len(stored[self._names[0]]))
        for name, array in stored.items():
            if self.device.type == "cpu":
                self._arrays[name] = array
                continue
            if name not in self._arrays:
                self._arrays[name] = torch.empty_like(array, device=self.device)
            new = slice(self._count, ready)
            self._arrays[name][new] = array[new].to(self.device)
        self._count = ready


def wait_for(ready: Callable[[], bool], what: str) -> None:
    """Wait for another part, whose files tell how far it is."""
    if not ready():
        _log.info("waiting for %s", what)
    while not ready():
        time.sleep(0.5)


def draw_clips(
    folder: Path,
    split: str,
    num_clips: int,
    preset: Preset,
    workers: int,
    recordings: Path | None = None,
) -> None:
    """Draw the first clips of a split into `folder`, or those that are still missing.

    With a folder of recordings every second clip (odd seeds) is heard with recorded sounds.
    """
    seeds = SPLITS[split][:num_clips][num_finished(folder, DRAWN) :]
    parts = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    pool = ProcessPoolExecutor(workers)
    try:
        size = (preset.height, preset.width)
        drawn = pool.map(_draw_chunk, parts, repeat(size), repeat(recordings))
        write_chunks(folder, DRAWN, num_clips, drawn)
    finally:
        pool.shutdown(cancel_futures=True)


def _draw_chunk(
    seeds: range, size: tuple[int, int], recordings: Path | None
) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    kinds = list(world.KINDS)
    recorded = load_recordings(recordings) if recordings else None
    clips = [world.make_clip(s, *size, recordings=recorded if s % 2 else None) for s in seeds]
    waveforms = torch.from_numpy(np.stack([clip.waveform for clip in clips]))
    return {
        "frames": np.stack([clip.frames for clip in clips]),
        "mel": log_mel(waveforms).numpy().astype(np.float16),
        "motion": np.stack([clip.motion for clip in clips]),
        "pose": np.stack([clip.pose for clip in clips]),
        "kind": np.array([kinds.index(clip.kind) for clip in clips]),
    }


class ClipEncoder:
    """The trained encoders, by the stem of their files, as what the U-Nets are trained on."""

    def __init__(
        self, networks: dict[str, Any], prompts: dict[str, Tensor], preset: Preset
    ) -> None:
        """`prompts`: tokens (1, L) of each kind's prompt, and of "" for none."""
        self._networks, self._preset = networks, preset
        self._device = next(networks["vae"].parameters()).device
        with torch.no_grad():
            text = {
                kind: networks["text_encoder"](tokens.to(self._device))[0]
                for kind, tokens in prompts.items()
            }
        self._text = torch.stack([text[kind] for kind in world.KINDS])
        self._no_text = text[""]

    @torch.no_grad()
    def encode(self, folder: Path, num_clips: int) -> None:
        """Encode the clips in `folder` as they are drawn, those that are still missing."""
        if num_finished(folder, _ENCODED) == 0:
            preset, device = self._preset, self._device
            silence = torch.zeros(1, 128, 204, device=device)
            grey = torch.zeros(1, 3, preset.height, preset.width, device=device)
            nulls = {"audio": self._audio(silence)[0], "image": self._image(grey)[0]}
            for name, value in (nulls | {"text": self._no_text}).items():
                np.save(folder / f"null_{name}.npy", value.half().cpu().numpy())
        write_chunks(folder, _ENCODED, num_clips, self._chunks(folder, num_clips))

    def _chunks(self, folder: Path, num_clips: int) -> Iterator[dict[str, np.ndarray]]:
        for start in range(num_finished(folder, _ENCODED), num_clips, CHUNK):
            end = min(start + CHUNK, num_clips)
            clips = Clips(folder, ("frames", "mel", "kind", "motion"), torch.device("cpu"), end)
            part = slice(start, end)
            frames = clips["frames"][part].to(self._device)
            latent = torch.stack([self._latents(to_pixels(clip)) for clip in frames])
            encoded = {
                "latent": latent,
                "audio": self._audio(clips["mel"][part].to(self._device).float()),
                "image": self._image(to_pixels(frames[:, 0])),
                "text": self._text[clips["kind"][part].to(self._device)],
                "moving": _moving_places(latent),
            }
            keyframes = [
                select_keyframes(motion, self._preset.keyframes)
                for motion in clips["motion"][part].numpy()
            ]
            yield {name: value.half().cpu().numpy() for name, value in encoded.items()} | {
                "keyframes": np.stack(keyframes)
            }

    def _audio(self, mel: Tensor) -> Tensor:
        """(N, 128, 204) to each frame's own audio tokens, (N, T, n, A)."""
        tokens = self._networks["audio_encoder"](mel[:, None])
        return interpolator_audio(tokens, self._preset.frames, self._preset.layout)

    def _image(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to each frame's image tokens, (N, T, q, D)."""
        encoder = self._networks["image_encoder"]
        seen = encoder["clip"](clip_preprocess(image, self._preset.clip_vision.image_size))
        return encoder["resampler"](seen).unflatten(1, (self._preset.frames, -1))

    def _latents(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) to posterior means (T, C, h, w); a frame like the one before is not new."""
        changed = (frames[1:] != frames[:-1]).flatten(1).any(dim=1)
        new = torch.cat([changed.new_ones(1), changed])
        with mixed_precision(frames.device):
            moments = self._networks["vae"].encode_moments(frames[new])
        return moments.chunk(2, dim=1)[0].float()[new.cumsum(0) - 1]


def _moving_places(latent: Tensor) -> Tensor:
    """(N, T, C, h, w) to (N, h, w): 0 where nothing happens, 1 where the scene moves."""
    change = (latent - latent[:, :1]).abs().mean(dim=2).amax(dim=1)
    return (change / 0.5).clamp(max=1)


def to_pixels(frames: Tensor) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float32 in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1


def write_chunks(
    folder: Path, stage: str, num_clips: int, chunks: Iterable[dict[str, np.ndarray]]
) -> None:
    """Append chunks to arrays of `num_clips` rows, and say after each how many are finished."""
    folder.mkdir(parents=True, exist_ok=True)
    for chunk in chunks:
        done = num_finished(folder, stage)
        for name, values in chunk.items():
            path = folder / f"{name}.npy"
            if done == 0:
                shape = (num_clips, *values.shape[1:])
                array = np.lib.format.open_memmap(path, "w+", values.dtype, shape)
            else:
                array = np.load(path, mmap_mode="r+")
            if len(array) != num_clips:
                raise ValueError(
                    f"{folder} was begun for {len(array)} clips, not {num_clips}: "
                    "choose the same number or another folder"
                )
            array[done : done + len(values)] = values
        partial = folder / f"{stage}.partial"
        partial.write_text(str(done + len(values)))
        os.replace(partial, folder / stage)
        _log.info("%s: %d of %d clips %s", folder.name, done + len(values), num_clips, stage)


def num_finished(folder: Path, stage: str) -> int:
    path = folder / stage
    return int(path.read_text()) if path.exists() else 0
