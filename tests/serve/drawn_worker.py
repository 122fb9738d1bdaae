"""A worker whose networks are a few lines: it starts quickly, and keeps a journal as the real one.

The process that a server of the tests starts in place of `keyvid.serve.worker`.
"""

import os
import signal
import sys
import time
from typing import Any

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import EngineChoice
from keyvid.remarks import collected
from keyvid.runtime.clip import Clip
from keyvid.runtime.journal import Journal
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.request import Prepared
from keyvid.serve import worker

STEP_SECONDS = 0.05
CRASHES, HANGS = "crash", "hang"  # prompts of clips that do so at their second step


class Drawn(Pipeline):
    """Draws noise that depends on seed and steps, and on what was kept."""

    @classmethod
    def load(cls, bundle: Any = "tiny", engine: str = "auto", **_: Any) -> "Drawn":
        """One for the packaged bundle."""
        return cls(Bundle.load(bundle), EngineChoice("openvino", "of a test"))

    def make(
        self, prepared: Prepared, progress: Progress | None = None, journal: Journal | None = None
    ) -> Clip:
        """As long as the steps of the generator take."""
        assert progress is not None
        assert journal is not None
        inputs, steps = prepared.inputs, prepared.sampling.generator.steps
        with collected() as remarks:
            journal.open((inputs.num_frames, *inputs.picture.shape), f"{prepared.seed} {steps}")
        first = int(journal.state.get("walk.num_done", 0))
        value = journal.state.get("value", inputs.picture.astype(np.float64))
        for step in range(first, steps):
            progress("generator", step, steps)
            time.sleep(STEP_SECONDS)
            if step == 1 and prepared.prompt == CRASHES:
                os.kill(os.getpid(), signal.SIGKILL)
            while step == 1 and prepared.prompt == HANGS:
                time.sleep(1)
            value = value + np.random.default_rng([prepared.seed, step]).normal(0, 9, value.shape)
            journal.keep({"num_segments": 0, "walk.num_done": step + 1, "value": value})  # type: ignore[dict-item]
        frame = np.clip(value, 0, 255).astype(np.uint8)
        journal.add(0, np.repeat(frame[np.newaxis], inputs.num_frames, axis=0))
        return Clip(
            frames=journal.frames,
            fps=24,
            sound=inputs.sound,
            keyframes=np.arange(0, inputs.num_frames, 4),
            motion=np.zeros(inputs.num_frames, np.float32),
            timings={"generator": steps * STEP_SECONDS},
            batches={},
            bundle=self.bundle.name,
            engine=self.engine.name,
            prompt=prepared.prompt,
            seed=prepared.seed,
            settings=prepared.sampling,
            remarks=(*prepared.remarks, *remarks),
        )


if __name__ == "__main__":
    worker.Pipeline = Drawn  # type: ignore[misc]
    sys.exit(worker.main())
