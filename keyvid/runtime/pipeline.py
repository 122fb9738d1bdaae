"""From an image and a sound to a video."""

from os import PathLike
from typing import Any

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.engines.engine import EngineChoice, choose_engine
from keyvid.runtime.clip import Clip
from keyvid.runtime.diffusion.conditioning import Conditions
from keyvid.runtime.diffusion.diffusion import Diffusion
from keyvid.runtime.diffusion.guidance import count_branches
from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.diffusion.timeline import (
    OVERLAP,
    Window,
    all_keyframes,
    check_plan,
    num_window_frames,
    plan_windows,
)
from keyvid.runtime.encoding import (
    decode,
    encode_first_frame,
    encode_picture_and_prompt,
    encode_sound,
    score_motion,
    window_mel,
)
from keyvid.runtime.familiar import say_what_is_foreign
from keyvid.runtime.journal import Journal, Reel, fingerprint
from keyvid.runtime.media.picture import ImageSource
from keyvid.runtime.media.sound import AudioSource
from keyvid.runtime.networks.budget import Budget, check_cfg_batch
from keyvid.runtime.networks.stages import OpenGraphs, Progress, StageRunner
from keyvid.runtime.request import Inputs, Request, load_inputs
from keyvid.runtime.turns import Turns
from keyvid.sampling import Sampling, resolve


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
        self._budget = Budget(bundle, engine.spec, max_memory)
        self._opened = OpenGraphs(bundle, engine.spec, threads, self._budget)
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
            progress: see `keyvid.runtime.networks.stages.Progress`.
            options: the other fields of `Request`, such as prompt, seed, settings and length.
        """
        return self.make(Request(image, audio, **options), progress)

    def check(self, request: Request) -> Inputs:
        """The inputs of `request`, all of it checked that no network is needed for.

        Raises:
            MediaError, SettingsError: what is wrong with it.
        """
        self._sampling(request)
        check_cfg_batch(self.bundle, request.settings.cfg_batch)
        inputs = load_inputs(request, self.bundle.dimensions)
        check_plan(inputs.num_frames, self.bundle.dimensions, request.keyframes)
        return inputs

    def _sampling(self, request: Request) -> Sampling:
        return resolve(request.settings, self.bundle.sampling, self.bundle.qualities)

    def make(
        self, request: Request, progress: Progress | None = None, journal: Journal | None = None
    ) -> Clip:
        """The clip that `request` asks for.

        Args:
            progress: see `keyvid.runtime.networks.stages.Progress`.
            journal: where the frames of several windows are kept; else they are in memory.
        """
        size = self.bundle.dimensions
        inputs = self.check(request)
        sampling = self._sampling(request)
        guided = sampling if request.prompt else sampling.without_prompt()
        with self._turns:
            graphs = self._budget.choose_graphs(
                count_branches(guided), guided.temporal, request.settings.cfg_batch
            )
            stages = StageRunner(self._opened, graphs, progress)
            reel = journal if journal and inputs.num_frames > size.frames else Reel()
            reel.open(
                (inputs.num_frames, *inputs.picture.shape),
                fingerprint(self.bundle, self.engine.name, graphs, guided, request, inputs),
            )
            motion, windows = self._animate(stages, guided, request, inputs, reel)
        return Clip(
            frames=reel.frames,
            fps=size.fps,
            sound=inputs.sound,
            keyframes=all_keyframes(windows),
            motion=motion,
            timings=stages.seconds,
            calls=dict(stages.calls),
            batches={stage: graph.branches for stage, graph in graphs.items() if graph.branches},
            bundle=self.bundle.name,
            engine=self.engine.name,
            prompt=request.prompt,
            seed=request.seed,
            settings=sampling,
        )

    def _animate(
        self, stages: StageRunner, sampling: Sampling, request: Request, inputs: Inputs, reel: Reel
    ) -> tuple[np.ndarray, list[Window]]:
        """Put the frames on `reel`; gives the motion score of each, and the windows they are of."""
        size = self.bundle.dimensions
        rng = seeded(request.seed)
        motion = score_motion(stages, inputs.mono, num_window_frames(inputs.num_frames, size))
        windows = plan_windows(inputs.num_frames, motion, size, request.keyframes)
        image, text = encode_picture_and_prompt(stages, inputs.picture, request.prompt)
        first_frame = encode_first_frame(stages, inputs.picture, rng)
        say_what_is_foreign(stages, inputs.picture, first_frame, request.prompt)
        diffusion = self.diffusion(stages, sampling, first_frame, rng)
        reel.restore(diffusion, size.window_stride)
        for window in windows[reel.num_windows :]:
            stages.report_window(window.index, len(windows))
            if window.index:
                diffusion.rng = seeded(request.seed, window.index)
            sound = encode_sound(stages, window_mel(stages, inputs.mono, window.start))
            latents = diffusion.make_window(window, Conditions(image, text, sound))
            new = latents[:, :, window.known : window.stop - window.start]
            reel.frames[window.start + window.known : window.stop] = decode(stages, new)
            diffusion.shared = latents[:, :, -OVERLAP:]
            reel.commit(diffusion)
        return motion[: inputs.num_frames], windows

    def close(self) -> None:
        """Free the networks; they are opened again when they are needed."""
        with self._turns:
            self._opened.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
