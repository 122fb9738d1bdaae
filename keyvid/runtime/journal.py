"""A long clip on disk while it is made, so that an interrupted one can be gone on with."""

import hashlib
import io
import json
import logging
import mmap
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.errors import MediaError
from keyvid.runtime.diffusion.diffusion import Diffusion
from keyvid.runtime.diffusion.noise import FrameNoise
from keyvid.runtime.media.outputs import write_atomic
from keyvid.runtime.request import Inputs, Request
from keyvid.sampling import Sampling

_FRAMES, _STATE, _MADE_FROM = "frames.npy", "state.npz", "made-from.json"

log = logging.getLogger(__name__)


class Reel:
    """The frames of a clip in memory, window by window.

    Attributes:
        frames: (F, H, W, 3) uint8, once it is open.
        num_windows: how many windows are there.
    """

    frames: np.ndarray
    num_windows = 0

    def open(self, shape: tuple[int, ...], made_from: str) -> None:
        """Make room for frames of `shape`.

        Args:
            made_from: what they depend on, see `fingerprint`.
        """
        self.frames = np.empty(shape, np.uint8)

    def commit(self, diffusion: Diffusion) -> None:
        """Say that the frames of one more window are there."""
        self.num_windows += 1

    def restore(self, diffusion: Diffusion, stride: int) -> None:
        """Give `diffusion` what the last window that is there has left."""


class Journal(Reel):
    """The frames of a clip in a folder, with what the next window needs of those before.

    Args:
        folder: made when it is needed; `remove` takes it away again.
        resume: go on with what is there, if it is of the same clip.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self._folder = folder
        self._resume = resume
        self._lock = FileLock(folder / "lock")

    def open(self, shape: tuple[int, ...], made_from: str) -> None:
        """As for a reel; what is there of another clip is deleted.

        Raises:
            MediaError: the folder cannot be written, or another process works with it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
            known = self._folder / _MADE_FROM
            same = known.exists() and known.read_text() == made_from
            if self._resume and not same:
                log.warning("%s: holds nothing of this clip; it is made anew", self._folder)
            self.num_windows = self._windows() if self._resume and same else 0
            if not self.num_windows:
                (self._folder / _STATE).unlink(missing_ok=True)
                write_atomic(known, made_from.encode())
                np.lib.format.open_memmap(self._folder / _FRAMES, "w+", np.uint8, shape)
            self.frames = np.lib.format.open_memmap(self._folder / _FRAMES, "r+")
        except Timeout:
            raise MediaError(
                f"{self._folder}: another process is making this clip; wait for it"
            ) from None
        except (OSError, ValueError) as error:
            raise MediaError(f"{self._folder}: cannot be written: {error}") from error

    def commit(self, diffusion: Diffusion) -> None:
        """Say that the frames of one more window are there, and keep what the next one needs."""
        super().commit(diffusion)
        _write_out(self.frames)
        state = {"num_windows": np.array(self.num_windows), "shared": diffusion.shared}
        if diffusion.noise:
            state |= {"noise": diffusion.noise.first, "order": np.array(diffusion.noise.order)}
        content = io.BytesIO()
        np.savez(content, **state)  # type: ignore[arg-type] # its stub takes `allow_pickle` for it
        write_atomic(self._folder / _STATE, content.getvalue())

    def restore(self, diffusion: Diffusion, stride: int) -> None:
        """Give `diffusion` what the last window that is there has left."""
        if not self.num_windows:
            return
        with np.load(self._folder / _STATE) as state:
            diffusion.shared = state["shared"]
            if "noise" in state:
                diffusion.noise = FrameNoise(state["noise"], stride, state["order"].tolist())

    def remove(self) -> None:
        """Delete the folder; one that was not opened here is someone else's, or of another time."""
        if self._lock.is_locked:
            shutil.rmtree(self._folder, ignore_errors=True)
            self.close()

    def close(self) -> None:
        """Let others work with the folder."""
        self._lock.release()

    def _windows(self) -> int:
        if not (self._folder / _STATE).exists():
            return 0
        with np.load(self._folder / _STATE) as state:
            return int(state["num_windows"])


def fingerprint(
    bundle: Bundle,
    engine: str,
    graphs: Mapping[str, GraphSpec],
    sampling: Sampling,
    request: Request,
    inputs: Inputs,
) -> str:
    """What the frames of a clip depend on, as JSON."""
    sound = hashlib.sha256(inputs.mono.tobytes()).hexdigest()
    return json.dumps(
        {
            "bundle": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
            "engine": engine,
            "graphs": [graph.file for graph in graphs.values()],
            "sampling": asdict(sampling),
            "picture": hashlib.sha256(inputs.picture.tobytes()).hexdigest(),
            "sound": sound,
            "prompt": request.prompt,
            "seed": request.seed,
            "keyframes": request.keyframes,
        }
    )


def _write_out(frames: np.ndarray) -> None:
    """Write frames that are mapped to their file, and give back the memory that they take."""
    mapping = frames.base
    if isinstance(mapping, mmap.mmap):
        mapping.flush()
        if hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)
