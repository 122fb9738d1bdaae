"""Do clips of the example pictures follow recorded sounds?"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.quality.compose import SAMPLE_RATE, Sound, compose_sounds
from bench.quality.ears import TOLERANCE_MS
from keyvid.runtime.pipeline import Pipeline
from keyvid.score.film import Film
from keyvid.score.motion import MEASURES
from keyvid.score.report import Table, with_interval
from keyvid.score.results import Observation, observe, score_clips

NOISE_LEVELS_DB: tuple[int | None, ...] = (None, 10)
# What a sound of a kind is played to.
_PICTURES = {
    "click": "hammer",
    "hand drum": "drum",
    "kick": "ball",
    "metal": "hammer",
    "snare": "drum",
    "tone": "ball",
}
_EXAMPLES = Path(__file__).parents[2] / "examples"


def make_clips(
    pipeline: Pipeline,
    count: int,
    noise_db: int | None,
    keep: Callable[[Sound, np.ndarray], None] = lambda sound, frames: None,
) -> Iterator[Observation]:
    """What is seen in `count` clips of composed sounds.

    Args:
        keep: called with each sound and the frames (T, H, W, 3) uint8 that were made to it.
    """
    fps = pipeline.bundle.dimensions.fps
    for number, sound in enumerate(compose_sounds(count, 2, noise_db)):
        name = _PICTURES[sound.kind]
        picture, audio = _EXAMPLES / f"{name}.png", (sound.waveform, SAMPLE_RATE)
        clip = pipeline(picture, audio, prompt=name, seed=number)
        keep(sound, clip.frames)
        times = np.arange(len(clip.frames)) / fps
        yield observe(
            Film(str(number), name, "contact", clip.frames, times, sound.events, sound.seconds)
        )


def format_clips(levels: dict[str, list[Observation]]) -> str:
    """F1 by each measure at each level of noise, and by picture."""
    header = ["noise", "seen by", "clips", f"F1 at {TOLERANCE_MS} ms", "by picture"]
    rows = []
    for level, clips in levels.items():
        scores = score_clips(clips)
        kinds = sorted({clip.kind for clip in clips})
        of_kind = {kind: score_clips([c for c in clips if c.kind == kind]) for kind in kinds}
        for measure in MEASURES:
            at = scores.by[measure].at_ms[TOLERANCE_MS]
            parts = [
                f"{kind} {of_kind[kind].by[measure].at_ms[TOLERANCE_MS].f1:.2f}" for kind in kinds
            ]
            f1 = with_interval(at.f1, at.f1_interval)
            rows.append([level, measure, str(len(clips)), f1, ", ".join(parts)])
    return f"{Table(header, rows)}\n"
