"""What is simulated, and what came of it."""

import math
from dataclasses import dataclass, field

import numpy as np

from bench.scale.costs import Costs
from keyvid.serve.scheduling import Rules

WHOLE, GENERATOR, INTERPOLATOR = "whole", "generator", "interpolator"


@dataclass(frozen=True)
class Autoscale:
    """Workers are started and ended as orders come and go.

    Attributes:
        least, most: workers.
        spare: how many more than are needed at the moment, as a share.
        by_rate: needed is the work that was ordered in the last ten minutes; otherwise a worker for
            each order that waits or is made.
    """

    least: int
    most: int
    spare: float = 0.3
    by_rate: bool = True


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Attributes:
        workers: of each pool: "whole", or "generator" and "interpolator".
        machine: seconds until a machine that was asked for, or that replaces a dead one, is there.
        store: seconds that an order takes to be kept before it can be made.
        store_rate: orders that the store keeps in a second, one after the other; None for any.
        hand_over: seconds in which latents come from one pool to the other.
        mean_life: seconds after which a worker dies on average, None for never.
        resumes: whether a clip goes on at its last step, or else begins anew.
        together: clips of equal length that share a call, at most.
        shared: the share of a call's time that does not grow with the clips in it.
        spread: seconds that clips really took by those of `costs`; one is drawn for each clip.
        keeps_known: whether the encoders' results are kept for a picture that comes again.
        returns: how often a client comes again who was refused.
    """

    costs: Costs
    workers: dict[str, int]
    rules: Rules = field(default_factory=lambda: Rules(waiting=1000))
    machine: float = 0.0
    store: float = 0.005
    store_rate: float | None = None
    hand_over: float = 0.05
    mean_life: float | None = None
    resumes: bool = True
    together: int = 1
    shared: float = 0.0
    spread: tuple[float, ...] = (1.0,)
    keeps_known: bool = False
    autoscale: Autoscale | None = None
    returns: int = 3

    @property
    def is_split(self) -> bool:
        """Whether each worker has one U-Net."""
        return WHOLE not in self.workers


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        waits: seconds from order to start of each clip that was made.
        delays: seconds from order to end of the same.
        refused: answers that said to come again. lost: orders that gave up, or were given up.
        busy, up: seconds of workers, at work and in all. again: of them, seconds of work lost.
        duration: until the last clip was done.
    """

    waits: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    refused: int = 0
    lost: int = 0
    busy: float = 0.0
    up: float = 0.0
    again: float = 0.0
    duration: float = 0.0

    def wait(self, percentile: float) -> float:
        """Seconds that so many per cent of the clips wait at most; infinite if none was made."""
        return float(np.percentile(self.waits, percentile)) if self.waits else math.inf

    def delay(self, percentile: float) -> float:
        """Seconds that so many per cent of the clips are there after at most."""
        return float(np.percentile(self.delays, percentile)) if self.delays else math.inf

    @property
    def mean_wait(self) -> float:
        """Seconds."""
        return float(np.mean(self.waits)) if self.waits else math.inf

    @property
    def utilisation(self) -> float:
        """Share of the time that workers were at work."""
        return self.busy / self.up if self.up else 0.0
