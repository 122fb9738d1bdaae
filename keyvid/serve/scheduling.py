"""Scheduling: whose clip is made next, who is asked to come again, and what happens after a crash.

All of it is arithmetic: no clock, no files, no store. The server and simulations use it alike.

Fairness is start-time fair queueing (Goyal, Vin and Cheng, 1996): an order is stamped with the
virtual time at which its client's share would reach it, and the smallest stamp goes first. A client
who orders a hundred clips thus delays others by one clip at most.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GENERATOR_STEP, INTERPOLATOR_STEP, DECODING = 1.0, 2.6, 1.4  # work of each, in every segment

_MOST_STAMP = 2**31 - 1  # what a store takes as a priority
_FIRST_GUESS_SECONDS = 10.0  # of a clip, before one was made
_REMEMBERED = 8  # clips whose time tells the pace
_CRASHES_IN_PLACE = 2  # after which a clip is given up
_CRASHES = 5  # the same, however far it came in between
_ATTEMPTS = 20  # the same, whatever ended them


@dataclass(frozen=True)
class Rules:
    """What may wait.

    Attributes:
        waiting: orders that may wait in all.
        waiting_of_one: orders that may wait of one client, None for as many as of all.
    """

    waiting: int = 8
    waiting_of_one: int | None = None


@dataclass(frozen=True)
class Refusal:
    """Why an order is not taken now.

    Attributes:
        reason: "queue" where too many wait, "client" where too many of that client do.
        num_waiting: how many that are.
        retry_after: seconds after which there is probably room.
    """

    reason: str
    num_waiting: int
    retry_after: float


@dataclass(frozen=True)
class Place:
    """Where an order stands.

    Attributes:
        work: see `work_of`.
        stamp: 1 and more; the smallest goes first, of equal ones the first that came.
        number: counts the orders as they came.
    """

    client: str
    work: float
    stamp: int
    number: int


def work_of(num_segments: float, generator_steps: int, interpolator_steps: int) -> float:
    """How much work a clip is; a step of the generator for one segment is 1.

    The weights were measured with the packaged model on two cores.
    """
    steps = GENERATOR_STEP * generator_steps + INTERPOLATOR_STEP * interpolator_steps
    return num_segments * (steps + DECODING)


class Line:
    """The orders that have not ended: who they are from, which are being made, which is next."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._places: dict[str, Place] = {}
        self._running: set[str] = set()
        self._now = 1.0  # virtual time: the stamp of what was begun last
        self._reached: dict[str, float] = {}  # virtual time up to which a client has had its share
        self._num_joined = 0

    def join(self, order: str, client: str, work: float) -> Place:
        """Put a new order into the line."""
        stamp = max(self._now, self._reached.get(client, 0.0), *self._ends_of(client))
        return self.rejoin(order, client, work, min(int(stamp), _MOST_STAMP))

    def rejoin(self, order: str, client: str, work: float, stamp: int) -> Place:
        """Put in an order that was stamped earlier; in the order in which they came."""
        self._num_joined += 1
        place = self._places[order] = Place(client, work, stamp, self._num_joined)
        return place

    def begin(self, order: str) -> None:
        """Say that an order is being made."""
        place = self._places[order]
        self._running.add(order)
        self._now = max(self._now, place.stamp)
        self._reached = {who: end for who, end in self._reached.items() if end > self._now}

    def wait_again(self, order: str) -> None:
        """Say that the making of an order was broken off; it keeps its place."""
        self._running.discard(order)

    def leave(self, order: str) -> None:
        """Say that an order has ended; what was not begun does not count as its client's share."""
        place = self._places.pop(order)
        if order in self._running:
            self._running.remove(order)
            end = place.stamp + place.work
            self._reached[place.client] = max(self._reached.get(place.client, 0.0), end)
        if not self._places:  # nobody waits whom an earlier share could have held up
            self._now, self._reached = 1.0, {}

    @property
    def waiting(self) -> list[str]:
        """Orders that wait, the next one first."""
        waiting = [order for order in self._places if order not in self._running]
        return sorted(waiting, key=lambda order: self._key(self._places[order]))

    @property
    def running(self) -> list[str]:
        """Orders that are being made."""
        return [order for order in self._places if order in self._running]

    def __contains__(self, order: str) -> bool:
        return order in self._places

    def place(self, order: str) -> Place:
        """Where an order stands that has not ended."""
        return self._places[order]

    def num_before(self, order: str) -> int:
        """How many clips are made before that of an order; 0 where it is being made."""
        if order in self._running or order not in self._places:
            return 0
        mine = self._key(self._places[order])
        earlier = sum(self._key(place) < mine for place in self._waiting_places())
        return len(self._running) + earlier

    def refusal(
        self, client: str, seconds_left: Iterable[float], num_workers: int, pace: "Pace"
    ) -> Refusal | None:
        """Why an order of `client` is not taken now, None where it is.

        Args:
            seconds_left: of each clip that is being made; read only where an answer needs it.
        """
        num_waiting = len(self._places) - len(self._running)
        of_one, wanted = self.rules.waiting_of_one, None
        reason = "queue"
        if num_waiting < self.rules.waiting:
            if of_one is None:
                return None
            num_waiting = sum(place.client == client for place in self._waiting_places())
            if num_waiting < of_one:
                return None
            reason, wanted = "client", client
        left = list(seconds_left)
        if not num_waiting:  # nothing may wait
            return Refusal(reason, num_waiting, min(left, default=0.0))
        if wanted is None:  # there is room when the next one begins, whichever it is
            return Refusal(reason, num_waiting, expected_starts(left, [0.0], num_workers, pace)[0])
        line = [self._places[name] for name in self.waiting]
        starts = expected_starts(left, [place.work for place in line], num_workers, pace)
        of_client = (at for place, at in zip(line, starts, strict=True) if place.client == wanted)
        return Refusal(reason, num_waiting, next(of_client, min(left, default=0.0)))

    def _waiting_places(self) -> Iterable[Place]:
        return (place for order, place in self._places.items() if order not in self._running)

    def _ends_of(self, client: str) -> Iterable[float]:
        return (p.stamp + p.work for p in self._places.values() if p.client == client)

    @staticmethod
    def _key(place: Place) -> tuple[int, int]:
        return place.stamp, place.number


class Pace:
    """How long clips take, told from the last ones."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_REMEMBERED)  # seconds for each unit of work

    def learn(self, work: float, seconds: float) -> None:
        """Take note of a clip."""
        self._last.append(seconds / work)

    def seconds(self, work: float) -> float:
        """What a clip will take."""
        if not self._last:
            return _FIRST_GUESS_SECONDS
        return sum(self._last) / len(self._last) * work


def expected_starts(
    seconds_left: Sequence[float], works: Sequence[float], num_workers: int, pace: Pace
) -> list[float]:
    """Seconds until each of the clips that wait is begun.

    Args:
        seconds_left: of each clip that is being made.
        works: of the clips that wait, the next one first.
    """
    free_in = sorted(max(seconds, 0.0) for seconds in seconds_left)
    free_in = [0.0] * (max(num_workers, 1) - len(free_in)) + free_in
    starts = []
    for work in works:
        starts.append(free_in[0])
        heapq.heapreplace(free_in, free_in[0] + pace.seconds(work))
    return starts


def is_worth_a_try(crashes: Sequence[tuple[int, ...]], num_attempts: int = 0) -> bool:
    """Whether a clip is tried again whose making has ended workers.

    Once more from the same place, and a few times where it has come further in between: then it
    was probably not the clip's own fault.

    Args:
        crashes: how far the clip was each time, in an order that grows with it; () before its
            first step, where the networks are opened that all clips have in common.
        num_attempts: how often it was begun, also by workers that ended with their whole server.
    """
    in_place = 0
    furthest: tuple[int, ...] = ()
    for place in filter(None, crashes):
        in_place = in_place + 1 if furthest and place <= furthest else 1
        furthest = max(furthest, place)
    return in_place < _CRASHES_IN_PLACE and len(crashes) < _CRASHES and num_attempts < _ATTEMPTS


@dataclass(frozen=True)
class Patience:
    """How long a step may take before its worker counts as stuck.

    Attributes:
        least: seconds, also where all steps were quick: networks may be opened in between.
        most: seconds, where no step of its stage is known.
        factor: times the longest step so far.
    """

    least: float = 300.0
    most: float = 3600.0
    factor: float = 20.0

    def seconds(self, longest: float | None) -> float:
        """What the next step may take.

        Args:
            longest: seconds of the longest one of the same stage so far, None where there is none.
        """
        if longest is None:
            return self.most
        return min(max(self.least, self.factor * longest), self.most)
