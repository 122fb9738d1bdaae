"""From an image and a sound to a video."""

from dataclasses import dataclass
from os import PathLike

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.engines.engine import EngineChoice, choose_engine
from keyvid.runtime.budget import choose_batches
from keyvid.runtime.diffusion import Diffusion
from keyvid.runtime.encoding import decode, encode_conditions, encode_first_frame, score_motion
from keyvid.runtime.keyframes import parse_keyframes, select_keyframes
from keyvid.runtime.mel import log_mel
from keyvid.runtime.noise import check_seed, seeded
from keyvid.runtime.picture import ImageSource, load_image
from keyvid.runtime.sound import AudioSource, Sound, load_sound, to_mono
from keyvid.runtime.stages import Progress, StageRunner
from keyvid.runtime.video import write_video
from keyvid.sampling import Sampling, Settings, resolve


@dataclass(frozen=True)
class Clip:
    """A video with its sound, and how it came about.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        fps: frames per second.
        sound: what was given, as long as the frames, at its own rate and with its own channels.
        keyframes: (K,) int64 frames that were generated first.
        motion: (T,) float32 motion that the sound calls for, as the localizer scores it.
        timings: seconds per stage, loading included.
        batches: guidance branches per network call, by U-Net.
        bundle, engine, prompt, seed, settings: what it was made with.
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

    def save(self, path: str | PathLike[str]) -> None:
        """Write an MP4 with H.264 video and AAC sound."""
        write_video(path, self.frames, self.fps, self.sound)


class Pipeline:
    """Makes clips with the networks of one bundle; see `load`."""

    def __init__(
        self,
        bundle: Bundle,
        engine: EngineChoice,
        threads: int | None = None,
        max_memory: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.threads = threads
        self.max_memory = max_memory

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
        prompt: str = "",
        seed: int = 0,
        settings: Settings | None = None,
        keyframes: str = "auto",
        start: float = 0.0,
        progress: Progress | None = None,
    ) -> Clip:
        """Animate `image` to `audio`.

        Args:
            image: picture file, PIL image or (H, W, 3) uint8; cropped to the bundle's size.
            audio: sound file, or samples (n,) and their rate; the bundle's length of it is used.
            prompt: what is seen and heard, "" for nothing.
            seed: of all noise; the same seed gives the same clip on each engine up to rounding.
            settings: sampling settings that differ from the bundle's defaults.
            keyframes: "auto" (from the sound), "uniform", or frame numbers such as "0,4,8".
            start: second of the sound to begin at.
            progress: called with stage, steps done and number of steps.
        """
        settings = settings or Settings()
        size = self.bundle.dimensions
        sampling = resolve(settings, self.bundle.sampling)
        indices = parse_keyframes(keyframes, size.frames, size.keyframes)
        seed = check_seed(seed)
        rng = seeded(seed)
        picture = load_image(image, size.height, size.width)
        seconds = size.frames / size.fps
        sound = load_sound(audio, seconds, start)
        guided = sampling if prompt else sampling.without_prompt()
        batches = choose_batches(
            self.bundle,
            self.engine.name,
            guided,
            cfg_batch=settings.cfg_batch,
            max_memory=self.max_memory,
        )

        stages = StageRunner(self.bundle, self.engine.name, self.threads, progress)
        mono = to_mono(sound, size.sample_rate, seconds)
        mel = log_mel(mono, size.mel_bins, size.mel_frames)
        motion = score_motion(stages, mel)
        if indices is None:
            indices = select_keyframes(motion, size.keyframes)
        conditions = encode_conditions(stages, picture, prompt, mel)
        first_frame = encode_first_frame(stages, picture, rng)
        diffusion = Diffusion(stages, guided, batches, conditions, rng)
        keyframe_latents = diffusion.generate_keyframes(first_frame, indices)
        latents = diffusion.interpolate(keyframe_latents, indices)
        frames = decode(stages, latents)

        return Clip(
            frames=frames,
            fps=size.fps,
            sound=sound,
            keyframes=indices,
            motion=motion,
            timings=stages.seconds,
            batches=batches,
            bundle=self.bundle.name,
            engine=self.engine.name,
            prompt=prompt,
            seed=seed,
            settings=sampling,
        )
