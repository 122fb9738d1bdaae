"""What the ears are trained on: sounds alone, drawn and with recordings, and their losses."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keyvid_ref.mel import log_mel
from keyvid_ref.presets import Preset
from keyvid_ref.training.data import CHUNK, DRAWN, SPLITS, Clips, num_finished, write_chunks
from keyvid_ref.training.loop import mixed_precision
from keyvid_ref.world import world
from keyvid_ref.world.recordings import Recordings, load_recordings

_SOUND_SECONDS = 4.0  # drawn, of which two cuts of two seconds are heard
_SOUND_SIZE = (24, 40)  # pixels: enough to tell how much moves
_READ_BATCH, _READ_DAMPING = 40, 1e-2


def draw_sounds(folder: Path, split: str, num_sounds: int, recordings: Path, workers: int) -> None:
    """Sounds of the first clips of a split, as drawn and as heard, or those still missing.

    N sounds of two seconds: mel and heard (N, 128, 204) float16, the drawn sound and the same
    events with recordings; motion, pose (N, T) float32.
    """
    seeds = SPLITS[split][: num_sounds // 2][num_finished(folder, DRAWN) // 2 :]
    parts = [seeds[i : i + CHUNK] for i in range(0, len(seeds), CHUNK)]
    pool = ProcessPoolExecutor(workers)
    try:
        drawn = pool.map(_sounds_chunk, parts, repeat(recordings))
        write_chunks(folder, DRAWN, num_sounds, drawn)
    finally:
        pool.shutdown(cancel_futures=True)


def _sounds_chunk(seeds: range, recordings: Path) -> dict[str, np.ndarray]:
    torch.set_num_threads(1)
    cuts = [cut for seed in seeds for cut in _cut_sounds(seed, load_recordings(recordings))]
    sounds = {name: np.stack([cut[name] for cut in cuts]) for name in cuts[0]}
    for name in ("mel", "heard"):
        sounds[name] = log_mel(torch.from_numpy(sounds[name])).numpy().astype(np.float16)
    return sounds


def _cut_sounds(seed: int, recordings: Recordings) -> list[dict[str, np.ndarray]]:
    """The first two seconds of a longer clip, and two from anywhere in it.

    There events fall at the very beginning and end too, as in windows of long sounds.
    """
    rng = np.random.default_rng(seed)
    drawn = world.make_clip(seed, *_SOUND_SIZE, seconds=_SOUND_SECONDS)
    heard = world.make_clip(seed, *_SOUND_SIZE, seconds=_SOUND_SECONDS, recordings=recordings)
    motion, cuts = drawn.motion, []
    for start in (0, rng.integers(len(motion) - world.NUM_FRAMES + 1)):
        sample = round(start / world.FPS * world.SAMPLE_RATE)
        frames = slice(start, start + world.NUM_FRAMES)
        samples = slice(sample, sample + round(world.SECONDS * world.SAMPLE_RATE))
        cuts.append(
            {
                "mel": drawn.waveform[samples],
                "heard": heard.waveform[samples],
                "motion": motion[frames],
                "pose": drawn.pose[frames],
            }
        )
    return cuts


class AudioTrainer(nn.Module):
    """The audio trunk with a head that reads motion and pose from each frame's own tokens."""

    def __init__(self, encoder: nn.Module, preset: Preset) -> None:
        super().__init__()
        self.encoder, self._frames = encoder, preset.frames
        self.head = nn.Linear((1 + preset.audio.frequency_patches) * preset.audio.width, 2)

    def loss(self, heard: Tensor, drawn: Tensor, motion: Tensor, pose: Tensor) -> Tensor:
        """Squared error of motion and pose (B, T), heard in (B, 128, 204)."""
        with _precision(heard.device):
            predicted = self.head(own_tokens(self.encoder(heard[:, None]), self._frames))
        return F.mse_loss(predicted.float(), torch.stack([motion, pose], dim=-1))


class PupilTrainer(nn.Module):
    """An audio trunk that learns to hear in recordings what its teacher hears in drawn sounds.

    So networks that were trained on the teacher's tokens understand the pupil's. What they read
    there is not known; motion and pose as they are read best from the teacher's tokens stand for
    it. All else of the tokens (timbre, noise) cannot be told from a recording, and counts little.
    """

    def __init__(self, encoder: nn.Module, teacher: nn.Module, num_frames: int) -> None:
        super().__init__()
        self.encoder, self._frames = encoder, num_frames
        self._teacher = [teacher.requires_grad_(False)]  # in a list: not to be trained

    @torch.no_grad()
    def learn_to_read(self, drawn: Tensor, motion: Tensor, pose: Tensor) -> None:
        """Fit the reading, by least squares, on drawn sounds (N, 128, 204) and their (N, T)."""
        (teacher,) = self._teacher
        heard = [teacher(part[:, None].float()) for part in drawn.split(_READ_BATCH)]
        tokens = torch.cat([own_tokens(part, self._frames).flatten(0, 1) for part in heard])
        wanted = torch.stack([motion, pose], dim=-1).flatten(0, 1)
        self._centre, self._level = tokens.mean(dim=0), wanted.mean(dim=0)
        tokens, wanted = tokens - self._centre, wanted - self._level
        covariance = tokens.T @ tokens / len(tokens)
        covariance += _READ_DAMPING * torch.eye(len(covariance), device=covariance.device)
        self._weights = torch.linalg.solve(covariance, tokens.T @ wanted / len(tokens))

    def loss(self, heard: Tensor, drawn: Tensor, motion: Tensor, pose: Tensor) -> Tensor:
        """Squared error of what is read, and of the tokens, relative to their spread.

        Args:
            heard, drawn: (B, 128, 204), what is heard and the drawn sound of the same events.
            motion, pose: (B, T).
        """
        (teacher,) = self._teacher
        with torch.no_grad():
            wanted = teacher(drawn[:, None])
        tokens = self.encoder(heard[:, None])
        read = (own_tokens(tokens, self._frames) - self._centre) @ self._weights + self._level
        error = ((tokens - wanted).square() / wanted.var(dim=(0, 1))).mean()
        return 4 * F.mse_loss(read, torch.stack([motion, pose], dim=-1)) + 0.1 * error


def own_tokens(tokens: Tensor, num_frames: int) -> Tensor:
    """(B, 1 + P T, A) to (B, T, (1 + P) A): the class token and the patches of each frame."""
    patches = tokens[:, 1:].unflatten(1, (-1, num_frames)).transpose(1, 2).flatten(2)
    return torch.cat([tokens[:, :1].expand(-1, num_frames, -1), patches], dim=2)


def localizer_loss(localizer: nn.Module, mel: Tensor, motion: Tensor) -> Tensor:
    """The motion curve (B, T) from (B, 128, 204) (paper, section 3.1).

    The curve's steps from frame to frame count too: where a movement is slow its peak is broad,
    and small errors of height move the highest frame.
    """
    with _precision(mel.device):
        error = localizer(mel[:, None, :, :198]).float() - motion
    return error.square().mean() + 3 * error.diff(dim=1).square().mean()


def hear(
    clips: Clips, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is heard, with a little gain, and what is drawn (B, 128, 204), motion and pose (B, T).

    Where there are recordings a quarter of the batch hears what is drawn, else all do.
    """
    clip = clips.choose(batch, generator)
    drawn = clips["mel"][clip].float()
    heard, gain = drawn, 0.6 * _uniform(batch, generator) - 0.3
    if "heard" in clips:
        recorded = clips["heard"][clip].float()
        heard = torch.where(_uniform(batch, generator) < 0.25, drawn, recorded)
    return heard + gain, drawn, clips["motion"][clip], clips["pose"][clip]


def _precision(device: torch.device) -> AbstractContextManager[None]:
    """float32 on a CPU, where networks as small as these take twice as long in bfloat16."""
    return nullcontext() if device.type == "cpu" else mixed_precision(device)


def _uniform(batch: int, generator: torch.Generator) -> Tensor:
    return torch.rand((batch, 1, 1), device=generator.device, generator=generator)
