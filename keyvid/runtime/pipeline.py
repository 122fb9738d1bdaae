"""From an image and a sound to a video."""

from os import PathLike
from typing import Any

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.engines.engine import EngineChoice, choose_engine
from keyvid.remarks import collected
from keyvid.runtime.clip import Clip
from keyvid.runtime.diffusion.conditioning import Conditions
from keyvid.runtime.diffusion.diffusion import Diffusion
from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.diffusion.segments import (
    Segment,
    all_keyframes,
    num_segment_frames,
    plan_segments,
)
from keyvid.runtime.encoding import (
    decode,
    encode_first_frame,
    encode_picture_and_prompt,
    encode_sound,
    segment_mel,
)
from keyvid.runtime.familiar import say_what_is_foreign
from keyvid.runtime.journal import Journal, Reel, fingerprint
from keyvid.runtime.localizer import Localizer
from keyvid.runtime.making import describe_making
from keyvid.runtime.media.picture import ImageSource
from keyvid.runtime.media.sound import AudioSource
from keyvid.runtime.networks.budget import Budget
from keyvid.runtime.networks.stages import OpenGraphs, Progress, StageRunner
from keyvid.runtime.request import Prepared, Request, prepare
from keyvid.runtime.turns import Turns


class Pipeline:
    """Makes clips with the networks of one bundle, and keeps them open as far as memory allows.

    Threads may share a pipeline: it makes one clip at a time, in the order of the calls. `close`,
    or the end of a `with` block, frees the networks.

    Attributes:
        diffusion: the class that makes latents; a subclass can replace it.
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
        self._localizer = Localizer(engine, threads)
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
        """Load a bundle, given by its path or the name of a packaged one.

        Args:
            engine: "auto" for the fastest engine that works here, or a name that `keyvid-doctor`
                lists.
            threads: CPU threads per stage, None for the engine's own choice.
            max_memory: bytes that the process may take on a CPU, None for all that are free.
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
        return self.make(self.prepare(Request(image, audio, **options)), progress)

    def prepare(self, request: Request) -> Prepared:
        """Check `request` and load its inputs; this runs no network.

        Raises:
            MediaError, SettingsError: the request is not valid.
        """
        return prepare(request, self.bundle)

    def make(
        self, prepared: Prepared, progress: Progress | None = None, journal: Journal | None = None
    ) -> Clip:
        """Make the clip of a prepared request.

        Args:
            progress: see `keyvid.runtime.networks.stages.Progress`.
            journal: keeps frames and steps on disk, so that an interrupted clip can be continued;
                None keeps them in memory.
        """
        size, inputs = self.bundle.dimensions, prepared.inputs
        with self._turns, collected() as remarks:
            # Chosen now and not in `prepare`: how much memory is free changes while a clip waits.
            graphs = self._budget.choose_graphs(
                prepared.branches, prepared.sampling.temporal, prepared.cfg_batch
            )
            self._opened.open_ahead(graphs)
            stages = StageRunner(self._opened, graphs, progress)
            reel = journal or Reel()
            reel.open(
                (inputs.num_frames, *inputs.picture.shape),
                fingerprint(self.bundle, self.engine.name, graphs, prepared),
            )
            motion, segments = self._animate(stages, prepared, reel)
        batches = {unet: graph.branches for unet, graph in graphs.items() if graph.branches}
        made = (prepared, reel.digests, reel.frames)
        return Clip(
            frames=reel.frames,
            fps=size.fps,
            sound=inputs.sound,
            keyframes=all_keyframes(segments),
            motion=motion,
            timings=stages.seconds,
            calls=dict(stages.calls),
            batches=batches,
            bundle=self.bundle.name,
            engine=self.engine.name,
            prompt=prepared.prompt,
            seed=prepared.seed,
            settings=prepared.sampling,
            remarks=(*prepared.remarks, *remarks),
            picture=inputs.picture,
            making=describe_making(self.bundle, self.engine, batches, *made),
        )

    def _animate(
        self, stages: StageRunner, prepared: Prepared, reel: Reel
    ) -> tuple[np.ndarray, list[Segment]]:
        """Put the frames on `reel`; returns the motion score of each frame, and the segments."""
        size, inputs = self.bundle.dimensions, prepared.inputs
        rng = seeded(prepared.seed)
        ends = inputs.end is not None
        num_frames = num_segment_frames(inputs.num_frames, size, ends=ends)
        motion = self._localizer.motion(stages, prepared, num_frames)
        mono = self._localizer.sound(stages, prepared, num_frames)
        segments = plan_segments(inputs.num_frames, motion, size, prepared.keyframes, ends=ends)
        reel.note("localizer", motion)
        image, text = encode_picture_and_prompt(stages, inputs.picture, prepared.prompt)
        first_frame = encode_first_frame(stages, inputs.picture, rng)
        reel.note("image_encoder", image)
        reel.note("text_encoder", text)
        reel.note("vae_encoder", first_frame)
        say_what_is_foreign(stages, inputs.picture, first_frame, prepared.prompt)
        end = None if inputs.end is None else encode_first_frame(stages, inputs.end, rng)
        diffusion = self.diffusion(
            stages, prepared.guided, first_frame, prepared.seed, rng, reel.keep, end, reel.note
        )
        if reel.state:
            diffusion.restore(reel.state)
        for segment in segments[diffusion.num_segments :]:
            stages.report_segment(segment.index, len(segments))
            sound = encode_sound(stages, segment_mel(stages, mono, segment.start))
            reel.note(f"audio_encoder {segment.index + 1}", sound)
            latents = diffusion.make_segment(segment, Conditions(image, text, sound))
            reel.add(segment.start + segment.known, decode(stages, latents[:, :, segment.new]))
            reel.keep(diffusion.state())
        return motion[: inputs.num_frames], segments

    def close(self) -> None:
        """Free the networks; the next clip opens them again."""
        with self._turns:
            self._opened.close()
            self._localizer.close()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
