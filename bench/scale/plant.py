"""Workers that make clips in simulated time; the server's own scheduling says what comes next."""

import heapq
import math
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import simpy

from bench.scale.arrivals import MEAN_SEGMENTS, Order
from bench.scale.plan import GENERATOR, INTERPOLATOR, WHOLE, Outcome, Plan
from keyvid.serve.scheduling import Line, Pace, is_worth_a_try, work_of

_LOOKS_SECONDS = 10.0  # between two looks of an autoscaler
_LOOKS = 61  # of which it remembers: ten minutes

Steps = Generator[simpy.Event, Any, None]


@dataclass
class _Clip:
    """An order on its way.

    parts: pools and seconds that are left. step: seconds, the most that a death costs where clips
    resume. made: seconds of the first part that are done.
    """

    order: Order
    work: float
    parts: deque[tuple[str, float]]
    step: float
    tries: int = 0
    key: tuple[int, int] = (0, 0)
    made: float = 0.0
    has_begun: bool = False
    crashes: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.order.number)


class Plant:
    """Runs a plan once; the same seed gives the same numbers."""

    def __init__(self, plan: Plan, seed: int = 0) -> None:
        self._plan = plan
        self._outcome = Outcome()
        self._env = simpy.Environment()
        self._rng = np.random.default_rng(seed)
        self._line, self._pace = Line(plan.rules), Pace()
        self._ready: dict[str, list[tuple[tuple[int, int], int, _Clip]]] = {}
        self._idle: dict[str, deque[simpy.Event]] = {}
        self._forecast: dict[str, float] = {}  # when the clips in the making will be done
        self._workers = 0
        self._wanted = sum(plan.workers.values())
        self._open = 0  # orders that have not ended
        self._asked = 0.0  # seconds of work that have been ordered so far
        self._has_all = False
        self._store_free = 0.0  # when the store has kept all that it was given
        self._done = self._env.event()
        for pool, number in plan.workers.items():
            self._ready[pool], self._idle[pool] = [], deque()
            for _ in range(number):
                self._env.process(self._work(pool, start=0.0))

    def run(self, orders: Iterable[Order]) -> Outcome:
        """Until all orders have ended."""
        self._env.process(self._arrive(orders))
        if self._plan.autoscale:
            self._env.process(self._autoscale())
        self._env.run(self._done)
        self._outcome.duration = self._env.now
        self._outcome.up += self._workers * self._env.now
        return self._outcome

    def _arrive(self, orders: Iterable[Order]) -> Steps:
        for order in orders:
            if order.at > self._env.now:
                yield self._env.timeout(order.at - self._env.now)
            self._open += 1
            self._asked += self._plan.costs.clip(order.segments)
            self._ask(self._as_clip(order))
        self._has_all = True
        self._end_if_done()

    def _as_clip(self, order: Order) -> _Clip:
        costs, n = self._plan.costs, order.segments
        if self._plan.spread != (1.0,):
            costs = costs.slower(self._rng.choice(self._plan.spread))
        encode = 0.0 if order.is_known and self._plan.keeps_known else costs.encode
        first, second = costs.generate, costs.interpolate + costs.decode
        if self._plan.is_split:
            pairs = ((GENERATOR, first), (INTERPOLATOR, second))
            parts = deque(pair for _ in range(math.ceil(n)) for pair in pairs)
            parts[0] = (GENERATOR, first + encode)
        else:
            parts = deque([(WHOLE, encode + n * (first + second))])
        step = max(costs.generate / costs.steps[0], costs.interpolate / costs.steps[1])
        return _Clip(order, work_of(n, *costs.steps), parts, step)

    def _ask(self, clip: _Clip) -> None:
        """Order a clip, as a client does who comes again when it is told to."""
        name, client = clip.name, clip.order.client
        left = (max(end - self._env.now, 0.0) for end in self._forecast.values())
        refusal = self._line.refusal(client, left, self._workers, self._pace)
        if refusal is None:
            place = self._line.join(name, client, clip.work)
            clip.key = (place.stamp, place.number)
            self._after(self._seconds_to_keep(), self._queue, clip)
            return
        self._outcome.refused += 1
        clip.tries += 1
        if clip.tries > self._plan.returns:
            self._open -= 1
            self._give_up()
        else:
            self._after(max(refusal.retry_after, 1.0), self._ask, clip)

    def _seconds_to_keep(self) -> float:
        """Until the store has an order that comes now."""
        rate = self._plan.store_rate
        self._store_free = max(self._store_free, self._env.now) + (1 / rate if rate else 0.0)
        return self._plan.store + self._store_free - self._env.now

    def _after(self, seconds: float, act: Any, clip: _Clip) -> None:
        self._env.timeout(seconds).callbacks.append(lambda _: act(clip))

    def _queue(self, clip: _Clip) -> None:
        pool = clip.parts[0][0]
        heapq.heappush(self._ready[pool], (clip.key, clip.order.number, clip))
        if self._idle[pool]:
            self._idle[pool].popleft().succeed()

    def _take(self, pool: str) -> list[_Clip]:
        """The next clip, and those behind it that can share its calls."""
        ready = self._ready[pool]
        taken: list[_Clip] = []
        while ready and len(taken) < self._plan.together:
            if taken and ready[0][2].parts[0] != taken[0].parts[0]:
                break
            taken.append(heapq.heappop(ready)[2])
        return taken

    def _work(self, pool: str, start: float) -> Steps:
        """A worker from its start to its end."""
        self._workers += 1
        self._outcome.up -= self._env.now
        if start:
            yield self._env.timeout(start)
        dies = self._next_death()
        while True:
            clips = self._take(pool)
            if not clips:
                if self._workers > self._wanted:
                    break
                called = self._env.event()
                self._idle[pool].append(called)
                yield called
                continue
            while dies <= self._env.now:  # it died while it had nothing to do, and was replaced
                dies += self._life()
            seconds = self._seconds(clips)
            self._begin(clips, seconds)
            if self._env.now + seconds <= dies:
                yield self._env.timeout(seconds)
                self._outcome.busy += seconds
                self._finish(clips)
                continue
            worked = dies - self._env.now
            yield self._env.timeout(worked)
            self._outcome.busy += worked
            self._crash(clips, worked)
            yield self._env.timeout(self._plan.machine + self._plan.costs.cold_start)
            dies = self._next_death()
        self._workers -= 1
        self._outcome.up += self._env.now

    def _life(self) -> float:
        mean = self._plan.mean_life
        return float(self._rng.exponential(mean)) if mean else math.inf

    def _next_death(self) -> float:
        return self._env.now + self._life()

    def _seconds(self, clips: list[_Clip]) -> float:
        """What is left of the first part of clips that share their calls."""
        seconds = max(clip.parts[0][1] - clip.made for clip in clips)
        return seconds * (1 + (len(clips) - 1) * (1 - self._plan.shared))

    def _begin(self, clips: list[_Clip], seconds: float) -> None:
        for clip in clips:
            self._forecast[clip.name] = self._env.now + seconds
            if not clip.has_begun:
                clip.has_begun = True
                self._line.begin(clip.name)
                self._outcome.waits.append(self._env.now - clip.order.at)

    def _finish(self, clips: list[_Clip]) -> None:
        for clip in clips:
            clip.made = 0.0
            clip.parts.popleft()
            if clip.parts:
                self._after(self._plan.hand_over, self._queue, clip)
                continue
            self._pace.learn(clip.work, self._plan.costs.clip(clip.order.segments))
            self._outcome.delays.append(self._env.now - clip.order.at)
            self._leave(clip)
            self._end_if_done()

    def _crash(self, clips: list[_Clip], worked: float) -> None:
        """The worker of these clips has died; they are tried again as the server would."""
        for clip in clips:
            kept = max(worked - self._rng.uniform(0, clip.step), 0.0) if self._plan.resumes else 0.0
            self._outcome.again += worked - kept
            clip.made += kept
            clip.crashes.append((-len(clip.parts), round(clip.made / clip.step)))
            if is_worth_a_try(clip.crashes):
                self._queue(clip)
            else:
                self._leave(clip)
                self._give_up()

    def _leave(self, clip: _Clip) -> None:
        self._forecast.pop(clip.name, None)
        self._line.leave(clip.name)
        self._open -= 1

    def _give_up(self) -> None:
        self._outcome.lost += 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._has_all and not self._open and not self._done.triggered:
            self._done.succeed()

    def _autoscale(self) -> Steps:
        """Start and end workers as orders come and go."""
        rule = self._plan.autoscale
        assert rule
        costs, pool = self._plan.costs, WHOLE
        recent = deque([0.0], maxlen=_LOOKS)
        while True:
            yield self._env.timeout(_LOOKS_SECONDS)
            waiting = len(self._ready[pool])
            recent.append(self._asked)
            if rule.by_rate:
                asked = recent[-1] - recent[0] + waiting * costs.clip(MEAN_SEGMENTS)
                needed = asked / (_LOOKS_SECONDS * (len(recent) - 1))
            else:
                needed = waiting + len(self._line.running)
            wanted = math.ceil(needed * (1 + rule.spare))
            self._wanted = min(max(wanted, rule.least), rule.most)
            for _ in range(self._wanted - self._workers):
                self._env.process(self._work(pool, self._plan.machine + costs.cold_start))
            for _ in range(min(self._workers - self._wanted, len(self._idle[pool]))):
                self._idle[pool].pop().succeed()
