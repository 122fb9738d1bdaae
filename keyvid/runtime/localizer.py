"""The localizer: how much the sound wants to move in each frame, told by the caller or heard."""

import math

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import AUTO, EngineChoice, choose_engine
from keyvid.remarks import remark
from keyvid.runtime.encoding import score_motion
from keyvid.runtime.motion import at_other_rate
from keyvid.runtime.networks.budget import Budget
from keyvid.runtime.networks.stages import OpenGraphs, StageRunner
from keyvid.runtime.request import LOCALIZER, Prepared
from keyvid.runtime.retiming import find_events, move_events

_PACKAGED = "tiny"


def num_stages(bundle: Bundle, prepared: Prepared) -> int:
    """How many networks make a clip: with a localizer only where one listens."""
    listens = prepared.motion is None or (prepared.beats is not None and len(prepared.beats) > 0)
    return len({*bundle.stages} - {LOCALIZER}) + listens


class Localizer:
    """Gives the motion of a clip's frames; keeps the packaged model's localizer open once used.

    Args:
        engine: what the bundle at hand is run with.
        threads: see `OpenGraphs`.
    """

    def __init__(self, engine: EngineChoice, threads: int | None) -> None:
        self._engine = engine
        self._threads = threads
        self._packaged: OpenGraphs | None = None

    def motion(self, stages: StageRunner, prepared: Prepared, num_frames: int) -> np.ndarray:
        """(num_frames,) float32 motion of the frames of all segments of a clip."""
        told = prepared.motion
        if told is not None:
            return np.pad(told, (0, num_frames - len(told)), mode="edge")
        return self._hear(stages, prepared, num_frames)

    def sound(self, stages: StageRunner, prepared: Prepared, num_frames: int) -> np.ndarray:
        """(n,) float32 what the networks hear: the sound, with its events where the beats are."""
        mono, beats, size = prepared.inputs.mono, prepared.beats, stages.bundle.dimensions
        if beats is None or not len(beats):
            return mono
        heard = self._hear(stages, prepared, num_frames)[: prepared.inputs.num_frames]
        events = find_events(heard, size.fps)
        if not len(events):
            remark("nothing is heard in the sound that could be moved to the beats")
            return mono
        if len(events) == len(beats) and np.abs(events - beats).max() < 1 / size.fps:
            return mono  # they are there already, as near as can be heard and seen
        return move_events(mono, size.sample_rate, events, beats)

    def _hear(self, stages: StageRunner, prepared: Prepared, num_frames: int) -> np.ndarray:
        """(num_frames,) float32 motion as a localizer hears it, whatever the caller says."""
        mono = prepared.inputs.mono
        if LOCALIZER in stages.bundle.stages and not prepared.packaged_localizer:
            return score_motion(stages, mono, num_frames)
        packaged = self._packaged_stages(stages)
        own, wanted = packaged.bundle.dimensions, stages.bundle.dimensions
        count = max(math.ceil(num_frames / wanted.fps * own.fps), own.frames)
        motion = score_motion(packaged, mono, count)
        return at_other_rate(motion, own.fps, num_frames, wanted.fps)

    def close(self) -> None:
        """Free the packaged model's localizer."""
        if self._packaged:
            self._packaged.close()

    def _packaged_stages(self, stages: StageRunner) -> StageRunner:
        if self._packaged is None:
            bundle = Bundle.load(_PACKAGED)
            is_on_cpu = self._engine.spec.device == "cpu"
            engine = choose_engine(self._engine.name if is_on_cpu else AUTO, bundle)
            budget = Budget(bundle, engine.spec)
            self._packaged = OpenGraphs(bundle, engine.spec, self._threads, budget)
        graphs = {"localizer": self._packaged.bundle.graph("localizer")}
        return StageRunner(self._packaged, graphs, stages.progress, stages.seconds)
