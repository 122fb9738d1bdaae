"""A clip: the result of a pipeline."""

from dataclasses import dataclass, field
from os import PathLike
from typing import IO

import numpy as np

from keyvid.errors import ProvenanceError
from keyvid.provenance.credentials import Signer
from keyvid.provenance.receipt import Making
from keyvid.runtime.media.label import Label
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.video import Enlargement, write_video
from keyvid.sampling import Sampling


@dataclass(frozen=True)
class Clip:
    """A video with its sound, and how it was made.

    Attributes:
        frames: (F, H, W, 3) uint8 RGB.
        fps: frames per second.
        sound: the given sound, cut to the length of the frames, at its own rate and channels.
        keyframes: (K,) int64 frames that were generated first.
        motion: (F,) float32 motion score per frame, from the localizer or the caller.
        timings: seconds per stage, loading included.
        batches: guidance branches per network call, by U-Net.
        bundle, engine, prompt, seed, settings: what the clip was made with.
        calls: number of runs of each graph, by file name.
        remarks: warnings about picture, sound and memory.
        picture: (H, W, 3) uint8 that it was made of; None for a clip that no pipeline made.
        making: how it came about, for its receipt; None as for `picture`.
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
    picture: np.ndarray | None = None
    making: Making | None = None

    def save(
        self,
        path: str | PathLike[str] | IO[bytes],
        *,
        scale: int = 1,
        enlargement: Enlargement = "lanczos",
        kind: str = ".mp4",
        receipt: bool = True,
        signer: Signer | None = None,
    ) -> str | None:
        """Write the clip in the format that the suffix of `path` names, see `write_video`.

        Args:
            receipt: whether the file says how it was made, see docs/provenance.md.
            signer: who signs it.
        Returns:
            the receipt that was written, None for none.
        Raises:
            ProvenanceError: it cannot be signed.
        """
        label = None
        if self.making is not None and self.picture is not None:
            label = Label(self.making, self.picture, receipt, signer)
        elif signer:
            raise ProvenanceError(
                "the clip does not know how it was made, so nobody can sign for it; sign one that "
                "a pipeline has made"
            )
        return write_video(
            path,
            self.frames,
            self.fps,
            self.sound,
            scale=scale,
            enlargement=enlargement,
            kind=kind,
            label=label,
        )
