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
from keyvid.runtime.diffusion import Diffusion
from keyvid.runtime.noise import FrameNoise
from keyvid.runtime.outputs import write_atomic
from keyvid.runtime.request import Inputs, Request
from keyvid.sampling import Sampling

_FRAMES, _STATE, _MADE_FROM = "frames.npy", "state.npz", "made-from.json"

log = logging.getLogger(__name__)


class Journal:
    """A folder with the frames so far and with what the next window needs of those before.

    Args:
        folder: made if it is not there; `remove` takes it away again.
        resume: go on with what is there, if it is of the same clip.
    Raises:
        MediaError: the folder cannot be written, or another process works with it.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self._folder = folder
        self._resume = resume
        self._lock = FileLock(folder / "lock")

    def open(self, shape: tuple[int, ...], made_from: str) -> tuple[np.ndarray, int]:
        """The frames, an array of `shape` that lies in a file, and how many windows it has.

        Args:
            made_from: tells clips apart; what is there of another one is deleted.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
            known = self._folder / _MADE_FROM
            same = known.exists() and known.read_text() == made_from
            if self._resume and not same:
                log.warning("%s: nothing there of this clip; it is made anew", self._folder)
            done = self._windows() if self._resume and same else 0
            if not done:
                (self._folder / _STATE).unlink(missing_ok=True)
                write_atomic(known, made_from.encode())
                frames = self._folder / _FRAMES
                np.lib.format.open_memmap(frames, "w+", np.uint8, shape)
            self.frames = np.lib.format.open_memmap(self._folder / _FRAMES, "r+")
            return self.frames, done
        except Timeout:
            raise MediaError(
                f"{self._folder}: another process is making this clip; wait for it"
            ) from None
        except (OSError, ValueError) as error:
            raise MediaError(f"{self._folder}: cannot be written: {error}") from error

    def commit(self, num_windows: int, diffusion: Diffusion) -> None:
        """Say that the frames of so many windows are there, and keep what the next one needs."""
        self.frames.flush()
        _drop_pages(self.frames)
        state = {"num_windows": np.array(num_windows), "shared": diffusion.shared}
        if diffusion.noise:
            state |= {"noise": diffusion.noise.first, "order": np.array(diffusion.noise.order)}
        content = io.BytesIO()
        np.savez(content, **state)  # type: ignore[arg-type] # its stub takes `allow_pickle` for it
        write_atomic(self._folder / _STATE, content.getvalue())

    def restore(self, diffusion: Diffusion, stride: int) -> None:
        """Give `diffusion` what the last window that is there has left."""
        with np.load(self._folder / _STATE) as state:
            diffusion.shared = state["shared"]
            if "noise" in state:
                diffusion.noise = FrameNoise(state["noise"], stride, state["order"].tolist())

    def remove(self) -> None:
        """Delete the folder."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

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


def _drop_pages(frames: np.ndarray) -> None:
    """Give back the memory of frames that lie in a file."""
    mapping = frames.base
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)
