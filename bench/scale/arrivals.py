"""Who orders what and when: Poisson arrivals whose rate is steady, a day's curve or a burst."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

DAY = 86_400.0
SEGMENTS = {1.0: 0.7, 2.0: 0.2, 5.0: 0.08, 30.0: 0.02}  # of clips of 2, 4, 10 and 60 s
MEAN_SEGMENTS = sum(number * share for number, share in SEGMENTS.items())

_MINUTE = 60.0
_CLIENTS = 2_000
_SKEW = 1.1  # of a Zipf distribution: the busiest client orders a tenth or so of all


@dataclass(frozen=True)
class Order:
    """A clip that somebody wants.

    Attributes:
        at: seconds from the beginning.
        segments: of two seconds each.
        is_known: whether the picture was sent before.
    """

    number: int
    at: float
    client: str
    segments: float
    is_known: bool = False


def steady(seconds: np.ndarray) -> np.ndarray:
    """The same rate always."""
    return np.ones_like(seconds)


def day(seconds: np.ndarray) -> np.ndarray:
    """A day's curve: at night a quarter of the mean, in the evening 1.75 of it."""
    return 1 - 0.75 * np.cos(2 * np.pi * (seconds / DAY - 4 / 24))


def burst(seconds: np.ndarray) -> np.ndarray:
    """Ten times as many between the 10th and the 20th minute."""
    return np.where((seconds >= 600) & (seconds < 1200), 10.0, 1.0)


CURVES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "steady": steady,
    "day": day,
    "burst": burst,
}


def draw_orders(
    per_day: float,
    duration: float,
    curve: str = "steady",
    seed: int = 0,
    segments: Mapping[float, float] = SEGMENTS,
    known: float = 0.0,
) -> Iterator[Order]:
    """The orders of so many seconds, the first one first.

    Args:
        per_day: the mean number of orders a day.
        segments: the share of each length.
        known: the share of pictures that were sent before.
    """
    rng = np.random.default_rng(seed)
    edges = np.arange(0, duration + _MINUTE, _MINUTE).clip(max=duration)
    rates = CURVES[curve]((edges[:-1] + edges[1:]) / 2) * per_day / DAY
    reached = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
    count = rng.poisson(reached[-1])
    times = np.interp(np.sort(rng.uniform(0, reached[-1], count)), reached, edges)
    shares = np.arange(1, _CLIENTS + 1) ** -_SKEW
    clients = rng.choice(_CLIENTS, count, p=shares / shares.sum())
    lengths = rng.choice(list(segments), count, p=list(segments.values()))
    knowns = rng.random(count) < known
    columns = zip(times.tolist(), clients.tolist(), lengths.tolist(), knowns.tolist(), strict=True)
    for number, (at, client, length, is_known) in enumerate(columns):
        yield Order(number, at, f"c{client}", length, is_known)
