"""Making the clips that are scored, in several processes, so that a stopped run goes on."""

import io
import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from time import process_time
from typing import Any

import numpy as np

from bench.quality.examples import Example, Task, make_example
from bench.quality.recipes import Recipe
from keyvid.errors import EngineError, MediaError, SettingsError
from keyvid.runtime.media.outputs import write_atomic
from keyvid.sampling import parse_settings
from keyvid_ref.world import world

RECIPE_FILE = "made-with.json"


@dataclass(frozen=True)
class Made:
    """A clip: frames (T, H, W, 3) uint8, keyframes (K,) int64, and the CPU time in seconds.

    Of all threads; other work on the machine lengthens it less than it does the time by the clock.
    """

    frames: np.ndarray
    keyframes: np.ndarray
    cpu_seconds: float


def claim_folder(folder: Path, made_with: dict[str, Any]) -> None:
    """Make `folder` and mark it with how its clips are made.

    Raises:
        SettingsError: it holds clips that were made otherwise.
    """
    marker = folder / RECIPE_FILE
    if marker.exists():
        earlier = json.loads(marker.read_text())
        changed = sorted(key for key in made_with if earlier.get(key) != made_with[key])
        if changed:
            raise SettingsError(
                f"{folder}: holds clips that were made with other values of {', '.join(changed)}; "
                "choose another --out, or delete it"
            )
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    write_atomic(marker, json.dumps(made_with, indent=1).encode() + b"\n")


def generate(
    recipe: Recipe, tasks: Sequence[Task], folder: Path, jobs: int
) -> Iterator[tuple[Task, Example, Made]]:
    """Each task's clip, in order; those that `folder` already holds are not made again.

    Args:
        jobs: processes of one thread each; 1 works in this process with the engine's own choice.
    Raises:
        EngineError: a process died.
    """
    if jobs == 1:
        maker = ClipMaker(recipe, folder, None)
        for task in tasks:
            yield task, maker.example(task), maker.make(task)
        return
    examples = ClipMaker(recipe, folder, 1)
    # Fresh processes: an engine's threads do not survive a fork.
    context = get_context("spawn")
    lifeline, held = context.Pipe(duplex=False)
    with held, ProcessPoolExecutor(jobs, context, _start, (recipe, folder, lifeline)) as pool:
        try:
            for task, made in zip(tasks, pool.map(_make, tasks), strict=True):
                yield task, examples.example(task), made
        except BrokenProcessPool as error:
            raise EngineError(
                "a process that made clips died, perhaps for lack of memory; use fewer --jobs"
            ) from error
        except BaseException:
            held.close()  # nobody waits for clips that are half made
            pool.shutdown(cancel_futures=True)
            raise


class ClipMaker:
    """Makes clips with one pipeline and keeps them in a folder."""

    def __init__(self, recipe: Recipe, folder: Path, threads: int | None) -> None:
        self._recipe, self._folder = recipe, folder
        self._pipeline = recipe.open(threads)
        self._settings = parse_settings(recipe.settings)

    def example(self, task: Task) -> Example:
        """What `task` is made from, in the bundle's size."""
        size = self._pipeline.bundle.dimensions
        return make_example(task, size.height, size.width)

    def make(self, task: Task) -> Made:
        """The clip of `task`, from the folder if it holds it."""
        example = self.example(task)
        picture, kind = example.truth.frames[0], example.truth.kind
        path = clip_file(self._folder, task)
        inputs = sha256(picture.tobytes() + example.waveform.tobytes() + kind.encode()).hexdigest()
        kept = _read_kept(path, inputs)
        if kept:
            return kept
        start = process_time()
        clip = self._pipeline(
            picture,
            (example.waveform, world.SAMPLE_RATE),
            prompt=kind,
            seed=self._recipe.seed,
            settings=self._settings,
            keyframes=self._recipe.keyframes,
        )
        made = Made(clip.frames, clip.keyframes, process_time() - start)
        content = io.BytesIO()
        np.savez_compressed(content, inputs=np.array(inputs), **asdict(made))
        write_atomic(path, content.getvalue())
        return made


def clip_file(folder: Path, task: Task) -> Path:
    """Where the clip of `task` lies in a folder of results."""
    return folder / "clips" / f"{task.name}.npz"


def read_frames(path: Path) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 of a clip that was kept.

    Raises:
        MediaError: there is none.
    """
    try:
        with np.load(path) as arrays:
            frames: np.ndarray = arrays["frames"]
            return frames
    except (OSError, ValueError, KeyError) as error:
        raise MediaError(f"{path}: cannot be read ({error}); make the clip first") from error


_maker: ClipMaker | None = None  # of a process of the pool


def _start(recipe: Recipe, folder: Path, lifeline: Connection) -> None:
    global _maker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process decides
    Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _maker = ClipMaker(recipe, folder, threads=1)


def _end_with(lifeline: Connection) -> None:
    """End this process once the other end of `lifeline` is closed, whatever has closed it."""
    try:
        lifeline.recv()
    except EOFError:
        os._exit(1)


def _make(task: Task) -> Made:
    assert _maker is not None
    return _maker.make(task)


def _read_kept(path: Path, inputs: str) -> Made | None:
    """The clip at `path`, if it was made from the same picture, sound and prompt."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        if str(arrays["inputs"]) != inputs:
            return None
        return Made(arrays["frames"], arrays["keyframes"], float(arrays["cpu_seconds"]))
