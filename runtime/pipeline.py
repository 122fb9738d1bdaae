"""From an image and a sound to a video."""

from os import PathLike
from typing import Any

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.engines.engine import EngineChoice, choose_engine
from keyvid.runtime.budget import Budget
from keyvid.runtime.clip import Clip
from keyvid.runtime.conditioning import Conditions
from keyvid.runtime.diffusion import Diffusion
from keyvid.runtime.encoding import (
    decode,
    encode_first_frame,
    encode_picture_and_prompt,
    encode_sound,
    score_motion,
    window_mel,
)
from keyvid.runtime.journal import Journal, fingerprint
from keyvid.runtime.noise import seeded
from keyvid.runtime.picture import ImageSource
from keyvid.runtime.request import Request, load_inputs
from keyvid.runtime.sound import AudioSource
from keyvid.runtime.stages import WINDOW, OpenGraphs, Progress, StageRunner
from keyvid.runtime.timeline import (
    OVERLAP,
    all_keyframes,
    check_plan,
    num_window_frames,
    plan_windows,
)
from keyvid.runtime.turns import Turns
from keyvid.sampling import resolve


class Pipeline:
    """Makes clips with the networks of one bundle, which stay open as far as the memory allows.

    Threads may share it: one clip is made at a time, the others wait in the order in which they
    came. `close` frees the networks, as does the end of a `with` block.

    Attributes:
        diffusion: what makes latents; a subclass can be put in its place.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineChoice,
        threads: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.diffusion = Diffusion
        self._budget = Budget(bundle, engine.name, max_memory)
        self._opened = OpenGraphs(bundle, engine.name, threads, self._budget)
        self._turns = Turns()

    @classmethod
    def load(
        cls,
        bundle: str | PathLike[str] = "tiny",
        engine: str = "auto",
        *,
        threads: int | None = None,
        max_memory: int | None = None,
    ) -> "Pipeline":
        """A pipeline on the bundle at a path, or the packaged one of that name.

        Args:
            engine: "auto" for the fastest that works here, or a name that `keyvid-doctor` lists.
            threads: CPU threads per stage, None for the engine's own choice.
            max_memory: bytes that the process may take on a CPU, None for what is free.
        """
        loaded = Bundle.load(bundle)
        check_complete(loaded)
        return cls(loaded, choose_engine(engine, loaded), threads, max_memory)

    def __call__(
        self,
        image: ImageSource,
        audio: AudioSource,
        *,
        progress: Progress | None = None,
        **options: Any,
    ) -> Clip:
        """Animate `image` to `audio`.

        Args:
            progress: see `keyvid.runtime.stages.Progress`.
            options: the other fields of `Request`, such as prompt, seed, settings and length.
        """
        return self.make(Request(image, audio, **options), progress)

    def make(
        self, request: Request, progress: Progress | None = None, journal: Journal | None = None
    ) -> Clip:
        """The clip that `request` asks for.

        Args:
            progress: see `keyvid.runtime.stages.Progress`.
            journal: where frames are kept meanwhile; without one they are in memory.
        """
        size = self.bundle.dimensions
        sampling = resolve(request.settings, self.bundle.sampling)
        guided = sampling if request.prompt else sampling.without_prompt()
        inputs = load_inputs(request, size)
        num_frames = inputs.num_frames
        check_plan(num_frames, size, request.keyframes)
        with self._turns:
            graphs = self._budget.choose_graphs(guided, request.settings.cfg_batch)
            stages = StageRunner(self._opened, graphs, progress)
            shape = (num_frames, size.height, size.width, 3)
            made_from = fingerprint(self.bundle, self.engine.name, graphs, guided, request, inputs)
            frames, done = (
                journal.open(shape, made_from) if journal else (np.empty(shape, np.uint8), 0)
            )

            rng = seeded(request.seed)
            motion = score_motion(stages, inputs.mono, num_window_frames(num_frames, size))
            windows = plan_windows(num_frames, motion, size, request.keyframes)
            image, text = encode_picture_and_prompt(stages, inputs.picture, request.prompt)
            first_frame = encode_first_frame(stages, inputs.picture, rng)
            diffusion = self.diffusion(stages, guided, first_frame, rng)
            if journal and done:
                journal.restore(diffusion, size.window_stride)
            for window in windows[done:]:
                if progress and len(windows) > 1:
                    progress(WINDOW, window.index, len(windows))
                diffusion.rng = seeded(request.seed, window.index) if window.index else rng
                sound = encode_sound(stages, window_mel(stages, inputs.mono, window.start))
                latents = diffusion.make_window(window, Conditions(image, text, sound))
                new = slice(window.start + window.known, window.stop)
                frames[new] = decode(
                    stages, latents[:, :, window.known : window.stop - window.start]
                )
                diffusion.shared = latents[:, :, -OVERLAP:]
                if journal:
                    journal.commit(window.index + 1, diffusion)
        return Clip(
            frames=frames,
            fps=size.fps,
            sound=inputs.sound,
            keyframes=all_keyframes(windows),
            motion=motion[:num_frames],
            timings=stages.seconds,
            batches={stage: graph.branches for stage, graph in graphs.items() if graph.branches},
            bundle=self.bundle.name,
            engine=self.engine.name,
            prompt=request.prompt,
            seed=request.seed,
            settings=sampling,
        )

    def close(self) -> None:
        """Free the networks; they are opened again when they are needed."""
        with self._turns:
            self._opened.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
