"""A long clip on disk while it is made, so that an interrupted one can be gone on with."""

import hashlib
import io
import json
import mmap
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.errors import MediaError
from keyvid.file_safety import locked_folder
from keyvid.remarks import remark
from keyvid.runtime.diffusion.diffusion import State
from keyvid.runtime.media.outputs import write_atomic
from keyvid.runtime.request import Prepared

_FRAMES, _STATE, _MADE_FROM = "frames.npy", "state.npz", "made-from.json"


class Reel:
    """The frames of a clip in memory, segment by segment.

    Attributes:
        frames: (F, H, W, 3) uint8, once it is open.
        num_segments: how many segments are there.
        state: of the diffusion after them, empty where there is none.
    """

    def __init__(self) -> None:
        self.frames = np.empty((0, 0, 0, 3), np.uint8)
        self.num_segments = 0
        self.state: State = {}

    def open(self, shape: tuple[int, ...], made_from: str) -> None:
        """Make room for frames of `shape`.

        Args:
            made_from: what they depend on, see `fingerprint`.
        """
        self.frames = np.empty(shape, np.uint8)

    def add(self, start: int, frames: np.ndarray, state: State) -> None:
        """Put the frames that a segment adds to the clip in place.

        Args:
            frames: (n, H, W, 3) uint8, the first of them number `start`.
            state: of the diffusion after them.
        """
        self.frames[start : start + len(frames)] = frames
        self.num_segments += 1


class Journal(Reel):
    """The frames of a clip in a folder, with what the next segment needs of those before.

    Args:
        folder: made when it is needed; `remove` takes it away again.
        resume: go on with what is there, if it is of the same clip.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        super().__init__()
        self._folder = folder
        self._resume = resume
        self._held = ExitStack()
        self._is_open = False

    def open(self, shape: tuple[int, ...], made_from: str) -> None:
        """As for a reel; what is there of another clip is deleted.

        Raises:
            MediaError: the folder cannot be written, or another process works with it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locked_folder(self._folder))
            self._is_open = True
            known = self._folder / _MADE_FROM
            same = known.exists() and known.read_text() == made_from
            if self._resume and not same:
                remark(f"{self._folder}: holds nothing of this clip; it is made anew")
            if self._resume and same:
                self._read_state()
            if not self.num_segments:
                (self._folder / _STATE).unlink(missing_ok=True)
                write_atomic(known, made_from.encode())
                np.lib.format.open_memmap(self._folder / _FRAMES, "w+", np.uint8, shape)
            self.frames = np.lib.format.open_memmap(self._folder / _FRAMES, "r+")
        except BlockingIOError:
            raise MediaError(
                f"{self._folder}: another process is making this clip; wait for it"
            ) from None
        except (OSError, ValueError) as error:
            raise MediaError(f"{self._folder}: cannot be written: {error}") from error

    def add(self, start: int, frames: np.ndarray, state: State) -> None:
        """As for a reel; once it is done, the segment will not be made again."""
        super().add(start, frames, state)
        _write_out(self.frames)
        content = io.BytesIO()
        np.savez(content, num_segments=np.array(self.num_segments), **state)  # type: ignore[arg-type] # its stub takes `allow_pickle` for it
        write_atomic(self._folder / _STATE, content.getvalue())

    def remove(self) -> None:
        """Delete the folder; one that was not opened here is someone else's, or of another time."""
        if self._is_open:
            shutil.rmtree(self._folder, ignore_errors=True)
            self.close()

    def close(self) -> None:
        """Let others work with the folder."""
        self._held.close()
        self._is_open = False

    def _read_state(self) -> None:
        if not (self._folder / _STATE).exists():
            return
        with np.load(self._folder / _STATE) as state:
            self.state = dict(state)
        self.num_segments = int(self.state.pop("num_segments"))


def fingerprint(
    bundle: Bundle, engine: str, graphs: Mapping[str, GraphSpec], prepared: Prepared
) -> str:
    """What the frames of a clip depend on, as JSON."""
    inputs, keyframes = prepared.inputs, prepared.keyframes
    return json.dumps(
        {
            "bundle": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
            "engine": engine,
            "graphs": [graph.file for graph in graphs.values()],
            "sampling": asdict(prepared.guided),
            "picture": hashlib.sha256(inputs.picture.tobytes()).hexdigest(),
            "sound": hashlib.sha256(inputs.mono.tobytes()).hexdigest(),
            "prompt": prepared.prompt,
            "seed": prepared.seed,
            "keyframes": None if keyframes is None else keyframes.tolist(),
        }
    )


def _write_out(frames: np.ndarray) -> None:
    """Write frames that are mapped to their file, and give back the memory that they take."""
    mapping = frames.base
    if isinstance(mapping, mmap.mmap):
        mapping.flush()
        if hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)
