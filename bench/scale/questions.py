"""What an operator asks, each answered by simulations: a table and a plot."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.scale.arrivals import CURVES, DAY, MEAN_SEGMENTS, draw_orders
from bench.scale.costs import Costs
from bench.scale.plan import GENERATOR, INTERPOLATOR, WHOLE, Autoscale, Outcome, Plan
from bench.scale.plant import Plant
from keyvid.score.report import Table
from keyvid.serve.scheduling import Rules

GOAL_SECONDS = 10.0  # that 95 % of the clips wait at most

_HOUR = 3600.0
_TOLD = ("at work", "p95 of wait", "p95 to end", "1,000 clips")


@dataclass(frozen=True)
class Setting:
    """What all questions share.

    Attributes:
        per_day: orders.
        hours: that are simulated of a steady load.
        price: of a worker's hour, in any currency; None leaves prices out.
    """

    costs: Costs
    per_day: float = 100_000.0
    hours: float = 2.0
    seed: int = 0
    price: float | None = None

    def simulate(self, plan: Plan, curve: str = "steady", **of_orders: Any) -> Outcome:
        """The plan under this load; a day's curve is simulated for a whole day."""
        duration = DAY if curve == "day" else self.hours * _HOUR
        load = {"per_day": self.per_day, **of_orders}
        return Plant(plan, self.seed).run(
            draw_orders(duration=duration, curve=curve, seed=self.seed, **load)
        )

    def paid(self, outcome: Outcome) -> str:
        """Worker-hours for a thousand clips, and their price."""
        hours = outcome.up / _HOUR / max(len(outcome.waits), 1) * 1000
        return f"{hours:.2f} h" + (f", {hours * self.price:.2f}" if self.price else "")


@dataclass(frozen=True)
class Answer:
    """A table, and the same as lines: (x, y) by name."""

    title: str
    table: Table
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    is_log: bool = False


def least_workers(meets: Callable[[int], bool], start: int) -> int:
    """The least number that meets a goal, near `start`; more workers never make it worse."""
    low, high = 0, max(start, 1)
    while not meets(high):
        low, high = high, max(high + 1, round(high * 1.3))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def workers_for(setting: Setting, plan: Plan, curve: str = "steady", **of_orders: Any) -> int:
    """Workers with which 95 % wait no longer than `GOAL_SECONDS`, and nobody is lost."""

    def meets(number: int) -> bool:
        outcome = setting.simulate(replace(plan, workers={WHOLE: number}), curve, **of_orders)
        return outcome.wait(95) <= GOAL_SECONDS and not outcome.lost

    per_day = of_orders.get("per_day", setting.per_day)
    mean = per_day / DAY * MEAN_SEGMENTS * plan.costs.clip(1.0)
    return least_workers(meets, round(mean * CURVES[curve](np.linspace(0, DAY)).max()) + 1)


def how_many(setting: Setting) -> Answer:
    """How many workers for how many clips a day?"""
    table = Table(["clips a day", "curve", "workers", *_TOLD], [])
    lines: dict[str, list[tuple[float, float]]] = {}
    for curve in ("steady", "day"):
        for per_day in (setting.per_day / 100, setting.per_day / 10, setting.per_day):
            plan = Plan(setting.costs, {WHOLE: 1})
            number = workers_for(setting, plan, curve, per_day=per_day)
            outcome = setting.simulate(
                replace(plan, workers={WHOLE: number}), curve, per_day=per_day
            )
            table.rows.append([f"{per_day:,.0f}", curve, str(number), *_told(setting, outcome)])
            lines.setdefault(curve, []).append((per_day, number))
    title = f"Workers with which 95 % of the clips wait {GOAL_SECONDS:g} s at most"
    return Answer(title, table, "clips a day", "workers", lines, is_log=True)


def autoscaling(setting: Setting) -> Answer:
    """What does it cost that a new machine is not there at once?"""
    fixed = workers_for(setting, Plan(setting.costs, {WHOLE: 1}), "day")
    table = Table(["workers", "started by", "machine there in", "mean", *_TOLD], [])
    lines: dict[str, list[tuple[float, float]]] = {}
    outcome = setting.simulate(Plan(setting.costs, {WHOLE: fixed}), "day")
    table.rows.append([str(fixed), "", "", str(fixed), *_told(setting, outcome)])
    for by_rate in (False, True):
        name = "orders' rate" if by_rate else "length of queue"
        for seconds in (10.0, 60.0, 300.0, 900.0):
            scale = Autoscale(max(fixed // 10, 1), 2 * fixed, by_rate=by_rate)
            plan = Plan(setting.costs, {WHOLE: fixed}, machine=seconds, autoscale=scale)
            outcome = setting.simulate(plan, "day")
            row = [f"{scale.least} to {scale.most}", name, f"{seconds:g} s"]
            mean = f"{outcome.up / outcome.duration:.1f}"
            table.rows.append([*row, mean, *_told(setting, outcome)])
            lines.setdefault(name, []).append((seconds, outcome.wait(95)))
    title = "A day's curve with workers that are started and ended"
    return Answer(title, table, "seconds until a machine is there", "p95 of the wait, s", lines)


def split(setting: Setting) -> Answer:
    """Both U-Nets in each worker, or one, and latents handed on?"""
    whole = workers_for(setting, Plan(setting.costs, {WHOLE: 1}))
    costs = setting.costs
    share = (costs.encode + costs.generate) / costs.clip(1.0)
    table = Table(["workers", *_TOLD], [])
    lines: dict[str, list[tuple[float, float]]] = {}
    for number in range(whole, whole + max(whole // 4, 2) + 1, max(whole // 12, 1)):
        generators = min(max(round(share * number), 1), number - 1)
        pools = {"with both": {WHOLE: number}}
        if generators:
            pools["split"] = {GENERATOR: generators, INTERPOLATOR: number - generators}
        for name, workers in pools.items():
            outcome = setting.simulate(Plan(costs, workers))
            numbers = " + ".join(map(str, workers.values()))
            table.rows.append([f"{numbers} {name}", *_told(setting, outcome)])
            lines.setdefault(name, []).append((number, outcome.delay(95)))
    return Answer("Workers with one U-Net each", table, "workers", "p95 until it is done, s", lines)


def sharing(setting: Setting) -> Answer:
    """What do clips gain that share a call of the U-Nets?"""
    table = Table(["clips a call", "of a call that is shared", "workers", *_TOLD], [])
    lines: dict[str, list[tuple[float, float]]] = {}
    for shared in (0.0, 0.2, 0.5):
        for together in (1, 2, 4):
            plan = Plan(setting.costs, {WHOLE: 1}, together=together, shared=shared)
            number = workers_for(setting, plan)
            outcome = setting.simulate(replace(plan, workers={WHOLE: number}))
            row = [str(together), f"{shared:.0%}", str(number)]
            table.rows.append([*row, *_told(setting, outcome)])
            lines.setdefault(f"{shared:.0%} shared", []).append((together, number))
    return Answer("Clips that share calls", table, "clips a call", "workers", lines)


def keeping(setting: Setting) -> Answer:
    """What is it worth to keep what the encoders made of a picture that comes again?"""
    table = Table(["pictures that come again", "workers", *_TOLD], [])
    lines: dict[str, list[tuple[float, float]]] = {"workers": []}
    for known in (0.0, 0.3, 0.9):
        plan = Plan(setting.costs, {WHOLE: 1}, keeps_known=True)
        number = workers_for(setting, plan, known=known)
        outcome = setting.simulate(replace(plan, workers={WHOLE: number}), known=known)
        table.rows.append([f"{known:.0%}", str(number), *_told(setting, outcome)])
        lines["workers"].append((known, number))
    return Answer("Encoders' results kept", table, "share of known pictures", "workers", lines)


def dying(setting: Setting) -> Answer:
    """Machines that are taken away: what does it save to go on at the step?"""
    table = Table(["mean life", "goes on at", *_TOLD, "lost", "work again"], [])
    lines: dict[str, list[tuple[float, float]]] = {}
    number = round(1.15 * workers_for(setting, Plan(setting.costs, {WHOLE: 1})))
    for resumes in (True, False):
        for life in (24 * _HOUR, _HOUR, _HOUR / 4):
            plan = Plan(setting.costs, {WHOLE: number}, machine=60, mean_life=life, resumes=resumes)
            outcome = setting.simulate(plan)
            share = outcome.again / outcome.busy
            row = [f"{life / _HOUR:g} h", "the step" if resumes else "the start"]
            row += [*_told(setting, outcome), str(outcome.lost), f"{share:.2%}"]
            table.rows.append(row)
            lines.setdefault(row[1], []).append((life / _HOUR, 100 * share))
    title = f"{number} machines that die"
    return Answer(title, table, "mean life, hours", "work made again, %", lines, is_log=True)


def storing(setting: Setting) -> Answer:
    """From how many orders a second does the store set the pace?"""
    arriving = setting.per_day / DAY
    number = workers_for(setting, Plan(setting.costs, {WHOLE: 1}))
    table = Table(["store, orders a second", "of what arrives", *_TOLD], [])
    lines: dict[str, list[tuple[float, float]]] = {"p95": []}
    for factor in (10.0, 2.0, 1.2, 1.05, 0.95):
        rate = factor * arriving
        outcome = setting.simulate(Plan(setting.costs, {WHOLE: number}, store_rate=rate))
        table.rows.append([f"{rate:.2f}", f"{factor:g}", *_told(setting, outcome)])
        lines["p95"].append((factor, outcome.wait(95)))
    title = f"A store beside {number} workers and {arriving:.2f} orders a second"
    return Answer(title, table, "its rate by that of the orders", "p95 of the wait, s", lines)


def bursting(setting: Setting) -> Answer:
    """Ten times as many orders for ten minutes: who waits, and who is told to come again?"""
    number = workers_for(setting, Plan(setting.costs, {WHOLE: 1}))
    table = Table(["may wait", *_TOLD, "told to come again", "gave up"], [])
    lines: dict[str, list[tuple[float, float]]] = {"gave up": []}
    for waiting in (2 * number, 10 * number, 50 * number):
        outcome = setting.simulate(Plan(setting.costs, {WHOLE: number}, Rules(waiting)), "burst")
        counts = [f"{outcome.refused:,}", f"{outcome.lost:,}"]
        table.rows.append([f"{waiting:,}", *_told(setting, outcome), *counts])
        lines["gave up"].append((waiting, outcome.lost))
    title = f"A burst of ten times the load on {number} workers"
    return Answer(title, table, "orders that may wait", "orders given up", lines)


QUESTIONS: Mapping[str, Callable[[Setting], Answer]] = {
    "workers": how_many,
    "burst": bursting,
    "autoscaling": autoscaling,
    "split": split,
    "sharing": sharing,
    "encoders": keeping,
    "deaths": dying,
    "store": storing,
}


def _told(setting: Setting, outcome: Outcome) -> Iterator[str]:
    yield f"{outcome.utilisation:.0%}"
    yield f"{outcome.wait(95):.1f} s"
    yield f"{outcome.delay(95):.1f} s"
    yield setting.paid(outcome)
