"""Generating the clips that are scored, in several processes, so that a stopped run goes on."""

import io
import json
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
from sync_ablations import ABLATIONS
from sync_clips import Scene, Task, make_scene

from keyvid import Pipeline, Settings
from keyvid.errors import EngineError, SettingsError
from keyvid.runtime.diffusion import Diffusion
from keyvid.runtime.keyframes import parse_keyframes
from keyvid.runtime.noise import check_seed
from keyvid.runtime.outputs import write_atomic
from keyvid.sampling import resolve
from keyvid_ref import world

RECIPE_FILE = "made-with.json"


@dataclass(frozen=True)
class Recipe:
    """How clips are generated; `seed` is that of the sampling noise, `without` an ablation."""

    bundle: str = "tiny"
    engine: str = "auto"
    settings: Settings = Settings()
    keyframes: str = "auto"
    seed: int = 0
    without: str | None = None

    def open(self, threads: int | None = None) -> Pipeline:
        """The pipeline, after a check of everything that could be wrong with the recipe."""
        pipeline = Pipeline.load(self.bundle, self.engine, threads=threads)
        size = pipeline.bundle.dimensions
        resolve(self.settings, pipeline.bundle.sampling)
        parse_keyframes(self.keyframes, size.frames, size.keyframes)
        check_seed(self.seed)
        return pipeline


@dataclass(frozen=True)
class Made:
    """A clip: frames (T, H, W, 3) uint8, keyframes (K,) int64, and the seconds it took."""

    frames: np.ndarray
    keyframes: np.ndarray
    seconds: float


def describe(recipe: Recipe, pipeline: Pipeline) -> dict[str, Any]:
    """The recipe as JSON values, with all that the defaults stand for."""
    manifest = (pipeline.bundle.path / "bundle.json").read_bytes()
    return {
        "bundle": pipeline.bundle.name,
        "bundle_sha256": sha256(manifest).hexdigest()[:16],
        "engine": pipeline.engine.name,
        "settings": asdict(resolve(recipe.settings, pipeline.bundle.sampling)),
        "keyframes": recipe.keyframes,
        "seed": recipe.seed,
        "without": recipe.without or "nothing",
    }


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
) -> Iterator[tuple[Task, Scene, Made]]:
    """Each task's clip, in order; those that `folder` already holds are not made again.

    Args:
        jobs: processes of one thread each; 1 works in this process with the engine's own choice.
    Raises:
        EngineError: a process died.
    """
    if jobs == 1:
        worker = _Worker(recipe, folder, None)
        for task in tasks:
            yield task, worker.scene(task), worker.make(task)
        return
    # Fresh processes: an engine's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _start_worker, (recipe, folder)) as pool:
        try:
            scenes = _Worker(recipe, folder, 1)
            for task, made in zip(tasks, pool.map(_work, tasks), strict=True):
                yield task, scenes.scene(task), made
        except BrokenProcessPool as error:
            raise EngineError(
                "a process that made clips died, perhaps for lack of memory; use fewer --jobs"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


class _Worker:
    """Makes clips with one pipeline and keeps them in a folder."""

    def __init__(self, recipe: Recipe, folder: Path, threads: int | None) -> None:
        self._recipe, self._folder = recipe, folder
        self._pipeline = recipe.open(threads)

    def scene(self, task: Task) -> Scene:
        size = self._pipeline.bundle.dimensions
        return make_scene(task, size.height, size.width)

    def make(self, task: Task) -> Made:
        scene = self.scene(task)
        picture, kind = scene.truth.frames[0], scene.truth.kind
        path = self._folder / "clips" / f"{task.name}.npz"
        inputs = sha256(picture.tobytes() + scene.waveform.tobytes() + kind.encode()).hexdigest()
        kept = _read_kept(path, inputs)
        if kept:
            return kept
        diffusion = ABLATIONS[self._recipe.without] if self._recipe.without else Diffusion
        start = perf_counter()
        with patch("keyvid.runtime.pipeline.Diffusion", diffusion):
            clip = self._pipeline(
                picture,
                (scene.waveform, world.SAMPLE_RATE),
                prompt=kind,
                seed=self._recipe.seed,
                settings=self._recipe.settings,
                keyframes=self._recipe.keyframes,
            )
        made = Made(clip.frames, clip.keyframes, perf_counter() - start)
        content = io.BytesIO()
        np.savez_compressed(content, inputs=np.array(inputs), **asdict(made))
        write_atomic(path, content.getvalue())
        return made


_worker: _Worker | None = None  # of a process of the pool


def _start_worker(recipe: Recipe, folder: Path) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops the pool
    _worker = _Worker(recipe, folder, threads=1)


def _work(task: Task) -> Made:
    assert _worker is not None
    return _worker.make(task)


def _read_kept(path: Path, inputs: str) -> Made | None:
    """The clip at `path`, if it was made from the same picture, sound and prompt."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        if str(arrays["inputs"]) != inputs:
            return None
        return Made(arrays["frames"], arrays["keyframes"], float(arrays["seconds"]))
