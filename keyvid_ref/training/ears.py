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
    """The audio trunk with a head that reads motion and pose from each frame's own tokens.

    With a teacher it also learns to hear in recordings what that hears in the drawn sound of the
    same events, so that networks that were trained on the teacher's tokens understand its own.
    """

    def __init__(self, encoder: nn.Module, preset: Preset, teacher: nn.Module | None) -> None:
        super().__init__()
        self.encoder, self._frames = encoder, preset.frames
        self.head = nn.Linear((1 + preset.audio.frequency_patches) * preset.audio.width, 2)
        self._teacher = [teacher.requires_grad_(False)] if teacher else []  # not to be trained

    def loss(self, heard: Tensor, drawn: Tensor, motion: Tensor, pose: Tensor) -> Tensor:
        """Squared error of motion and pose (B, T), and of the tokens, relative to their spread.

        Args:
            heard, drawn: (B, 128, 204), what is heard and the drawn sound of the same events.
        """
        with _precision(heard.device):
            tokens = self.encoder(heard[:, None])
            patches = tokens[:, 1:].unflatten(1, (-1, self._frames)).transpose(1, 2).flatten(2)
            own = torch.cat([tokens[:, :1].expand(-1, self._frames, -1), patches], dim=2)
            predicted = self.head(own)  # (B, T, 2)
        error = F.mse_loss(predicted.float(), torch.stack([motion, pose], dim=-1))
        for teacher in self._teacher:
            with torch.no_grad():
                wanted = teacher(drawn[:, None])
            spread = wanted.var(dim=(0, 1))
            error = error + 0.1 * ((tokens.float() - wanted).square() / spread).mean()
        return error


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
