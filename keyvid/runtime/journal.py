"""A clip on disk while it is made, step by step, so that an interrupted one can be gone on with."""

import errno
import hashlib
import io
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np

from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.errors import MediaError
from keyvid.file_safety import NO_ROOM, locked_folder, open_regular, write_whole
from keyvid.provenance.digests import Trace
from keyvid.remarks import remark
from keyvid.runtime.diffusion.diffusion import State, place_of
from keyvid.runtime.media.sources import shown
from keyvid.runtime.request import Prepared
from keyvid.sizes import format_size

_FRAMES, _STATE, _MADE_FROM = "frames", "state.npz", "made-from.json"
_SPARE = 1.25  # of the frames: room for the states, and for the clip when it is written
_IN_MEMORY = 100_000_000  # bytes of frames that may as well be in memory where the disk has no room


class Reel:
    """The frames of a clip in memory.

    Attributes:
        state: of the diffusion where it was interrupted, empty at the beginning.
    """

    def __init__(self) -> None:
        self.state: State = {}
        self._frames = np.empty((0, 0, 0, 3), np.uint8)
        self._trace = Trace({})

    def open(self, shape: tuple[int, ...], made_from: str) -> None:
        """Make room for frames of `shape`.

        Args:
            made_from: what they depend on, see `fingerprint`.
        """
        self._frames = np.empty(shape, np.uint8)

    def keep(self, state: State) -> None:
        """Have `state`, and all frames so far, be there after an interruption."""

    def note(self, stage: str, made: np.ndarray) -> None:
        """Have the digest of what a stage has made among `digests`."""
        self._trace.add(stage, made)

    @property
    def digests(self) -> Mapping[str, str]:
        """Of what each stage has made, in their order, those before an interruption as well."""
        return self._trace.digests

    def add(self, start: int, frames: np.ndarray) -> None:
        """Put frames (n, H, W, 3) uint8 in place, the first of them number `start`."""
        self._frames[start : start + len(frames)] = frames

    @property
    def frames(self) -> np.ndarray:
        """(F, H, W, 3) uint8, once all are there."""
        return self._frames


class Journal(Reel):
    """The frames of a clip in a folder, with the state of the diffusion after its last step.

    Frames are written as any file is: a full disk is an error then, while a page of a mapped file
    that finds no room ends the process.

    Args:
        folder: made when it is needed; `remove` takes it away again.
        resume: go on with what is there, if it is of the same clip.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        super().__init__()
        self._folder = folder
        self._resume = resume
        self._held = ExitStack()
        self._file: int | None = None  # of the frames; None while they are in memory
        self._shape: tuple[int, ...] = ()
        self._is_open = False
        self._is_complete = True  # whether the last state is the one that is kept

    def open(self, shape: tuple[int, ...], made_from: str) -> None:
        """As for a reel; what is there of another clip is deleted.

        Raises:
            MediaError: the folder cannot be written, or another process works with it.
        """
        self._shape = shape
        try:
            with self._explained():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._check_folder()
                self._held.enter_context(locked_folder(self._folder))
                self._is_open = True
                if not (self._resume and self._read(made_from)):
                    self._begin(made_from)
        except BlockingIOError:
            raise MediaError(
                f"{shown(self._folder)}: another process is making this clip; wait for it"
            ) from None

    def keep(self, state: State) -> None:
        """As for a reel; where there is no room for it, what was kept before stays."""
        if self._file is None:
            return
        state = state | self._trace.state
        content = io.BytesIO()
        np.savez(content, **state)  # type: ignore[arg-type] # its stub takes `allow_pickle` for it
        try:
            write_whole(self._folder / _STATE, content.getvalue())
        except OSError as error:
            if self._is_complete:
                remark(f"{shown(self._folder)}: {self._reason(error)}; steps are not kept")
            self._is_complete = False
        else:
            self.state, self._is_complete = state, True

    def add(self, start: int, frames: np.ndarray) -> None:
        """As for a reel.

        Raises:
            MediaError: there is no room for them.
        """
        if self._file is None:
            super().add(start, frames)
            return
        content = memoryview(frames.tobytes())
        at = start * frames[0].nbytes
        with self._explained():
            while content:
                num_written = os.pwrite(self._file, content, at)
                content, at = content[num_written:], at + num_written
            os.fsync(self._file)  # before there is a state that takes them for granted

    @property
    def frames(self) -> np.ndarray:
        """As of a reel, read from the file as far as they are looked at."""
        if self._file is None:
            return super().frames
        return np.memmap(self._folder / _FRAMES, np.uint8, "r", shape=self._shape)

    def remove(self) -> None:
        """Delete the folder; one that was not opened here is someone else's, or of another time."""
        if self._is_open:
            shutil.rmtree(self._folder, ignore_errors=True)
            self.close()

    def close(self) -> None:
        """Let others work with the folder."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._held.close()
        self._is_open = False

    def _check_folder(self) -> None:
        """Refuse a folder that is a link or holds one: it did not come from here.

        Raises:
            OSError: names what it is.
        """
        if self._folder.is_symlink():
            raise OSError(errno.ELOOP, "is a link; remove it")
        for path in self._folder.iterdir():
            os.close(open_regular(path, os.O_RDONLY))

    def _begin(self, made_from: str) -> None:
        (self._folder / _STATE).unlink(missing_ok=True)
        size = math.prod(self._shape)
        try:
            write_whole(self._folder / _MADE_FROM, made_from.encode())
            self._file = open_regular(self._folder / _FRAMES, os.O_RDWR | os.O_CREAT)
            os.ftruncate(self._file, 0)
            _reserve(self._file, size)
        except OSError as error:
            if error.errno not in NO_ROOM or size > _IN_MEMORY:
                raise
            self.remove()
            super().open(self._shape, made_from)
            remark(f"{shown(self._folder)}: {self._reason(error)}; an interruption loses the clip")

    def _read(self, made_from: str) -> bool:
        """Take up what is there; False where that is nothing of this clip."""
        try:
            if (self._folder / _MADE_FROM).read_text() != made_from:
                raise ValueError
            with ZipFile(self._folder / _STATE) as archive:  # ours are stored as they are
                if any(member.compress_type for member in archive.infolist()):
                    raise ValueError
            with np.load(self._folder / _STATE) as state:
                self.state = dict(state)
            self._trace = Trace(self.state)
            self._file = open_regular(self._folder / _FRAMES, os.O_RDWR)
        except (OSError, ValueError, LookupError, EOFError, BadZipFile, MemoryError):
            remark(f"{shown(self._folder)}: holds nothing of this clip; it is made anew")
            self.state, self._trace = {}, Trace({})
            return False
        remark(f"{shown(self._folder)}: goes on after {place_of(self.state)}")
        return True

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            raise
        except OSError as error:
            raise MediaError(f"{shown(self._folder)}: {self._reason(error)}") from error

    def _reason(self, error: OSError) -> str:
        if error.errno not in NO_ROOM:
            return f"cannot be written: {error.strerror or error}"
        takes = format_size(math.prod(self._shape))
        free = format_size(shutil.disk_usage(self._folder.parent).free)
        return f"no room: the frames take {takes}, {free} are free"


def fingerprint(
    bundle: Bundle, engine: str, graphs: Mapping[str, GraphSpec], prepared: Prepared
) -> str:
    """What the frames of a clip depend on, as JSON."""
    inputs, keyframes = prepared.inputs, prepared.keyframes
    return json.dumps(
        {
            "keyvid": version("keyvid"),
            "bundle": hashlib.sha256((bundle.path / MANIFEST).read_bytes()).hexdigest(),
            "engine": engine,
            "graphs": [graph.file for graph in graphs.values()],
            "sampling": asdict(prepared.guided),
            "picture": hashlib.sha256(inputs.picture.tobytes()).hexdigest(),
            "sound": hashlib.sha256(inputs.mono.tobytes()).hexdigest(),
            "end": None if inputs.end is None else hashlib.sha256(inputs.end.tobytes()).hexdigest(),
            "prompt": prepared.prompt,
            "seed": prepared.seed,
            "keyframes": None if keyframes is None else keyframes.tolist(),
            "motion": None if prepared.motion is None else prepared.motion.tolist(),
            "packaged_localizer": prepared.packaged_localizer,
            "beats": None if prepared.beats is None else prepared.beats.tolist(),
        }
    )


def _reserve(file: int, size: int) -> None:
    """Take the room for a file of `size` bytes now, if there is some to spare."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, round(_SPARE * size))
    os.ftruncate(file, size)
