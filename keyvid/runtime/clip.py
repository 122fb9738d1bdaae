"""A clip: what a pipeline gives."""

from dataclasses import dataclass, field
from os import PathLike
from typing import IO

import numpy as np

from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.video import Enlargement, write_video
from keyvid.sampling import Sampling


@dataclass(frozen=True)
class Clip:
    """A video with its sound, and how it came about.

    Attributes:
        frames: (F, H, W, 3) uint8 RGB.
        fps: frames per second.
        sound: what was given, as long as the frames, at its own rate and with its own channels.
        keyframes: (K,) int64 frames that were generated first.
        motion: (F,) float32 motion that the sound calls for, as the localizer scores it.
        timings: seconds per stage, loading included.
        batches: most guidance branches per network call, by U-Net.
        bundle, engine, prompt, seed, settings: what it was made with.
        calls: how often each graph has run, by its file.
        remarks: what there was to say about picture, sound and memory.
    """

    frames: np.ndarray
    fps: int
    sound: Sound
    keyframes: np.ndarray
    motion: np.ndarray
    timings: dict[str, float]
    batches: dict[str, int]
    bundle: str
    engine: str
    prompt: str
    seed: int
    settings: Sampling
    calls: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def save(
        self,
        path: str | PathLike[str] | IO[bytes],
        *,
        scale: int = 1,
        enlargement: Enlargement = "lanczos",
        kind: str = ".mp4",
    ) -> None:
        """Write the clip as the kind of file that its name asks for, see `write_video`."""
        made = (self.frames, self.fps, self.sound)
        write_video(path, *made, scale=scale, enlargement=enlargement, kind=kind)
