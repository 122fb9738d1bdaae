"""What is seen while a clip is made: which stage, how far it is, how long the rest takes."""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from keyvid.command import say
from keyvid.runtime.networks.stages import SEGMENT

_LINE_EVERY_SECONDS = 5.0  # where there is no terminal
# Time of a step of each U-Net, and of the whole decoder, relative to one another. Measured with the
# packaged model on two cores; what is before them takes a step or two.
_COSTS = {"generator": 1.0, "interpolator": 2.6, "vae_decoder": 1.4}


class ProgressDisplay:
    """A bar on a terminal, elsewhere a line every few seconds; both on stderr.

    Called as `keyvid.runtime.networks.stages.Progress`, within a `with` block.

    Args:
        title: put before all that is shown, such as which clip of how many it is.
    """

    def __init__(
        self, num_stages: int, clock: Callable[[], float] = perf_counter, *, title: str = ""
    ) -> None:
        self._title = f"{title}, " if title else ""
        self._num_stages = num_stages
        self._clock = clock
        self._forecast = Forecast(clock)
        self._seen: list[str] = []
        self._segment = ""
        self._last_line = clock()
        self._closing = ExitStack()
        self._bar: Any = None

    def __enter__(self) -> "ProgressDisplay":
        if sys.stderr.isatty():
            self._bar = self._closing.enter_context(_make_bar())
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage == SEGMENT:
            self._forecast.enter_segment(done, total)
            self._segment = f"segment {done + 1} of {total}"
            return
        if stage not in self._seen:
            self._seen.append(stage)
        seconds = self._forecast(stage, done, total)
        left = "" if seconds is None else f"{duration_text(seconds)} left"
        place = self._segment or f"stage {len(self._seen)} of {self._num_stages}"
        place = self._title + place
        if self._bar:
            task = self._bar.task_ids[0]
            self._bar.update(
                task, description=f"{place}  {stage}", completed=done, total=total, left=left
            )
        elif self._clock() - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = self._clock()
            say(f"{place}, {stage}: {done} of {total}" + (left and f", {left}"))


class Forecast:
    """How long a clip still takes, told from the pace of the U-Nets so far."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._start = 0.0
        self._spent_before: float | None = None  # what was there when the work began
        self._steps: dict[str, int] = {}
        self._first_segment = 0
        self._segment, self._num_segments = 0, 1

    def enter_segment(self, index: int, num_segments: int) -> None:
        """Say that a segment begins; those before the first that is named were there."""
        if not self._steps:
            self._first_segment = index
        self._segment, self._num_segments = index, num_segments

    def __call__(self, stage: str, done: int, total: int) -> float | None:
        """Seconds left when `stage` has done so many of its steps; None while it is not known.

        The interpolator is taken to have as many steps as the generator until it says otherwise.
        """
        if stage not in _COSTS:
            return None
        self._steps[stage] = total
        if stage == "generator":
            self._steps["interpolator"] = total
        whole = {name: cost * self._steps.get(name, 1) for name, cost in _COSTS.items()}
        whole["vae_decoder"] = _COSTS["vae_decoder"]
        stages = list(_COSTS)
        before = sum(whole[name] for name in stages[: stages.index(stage)])
        a_segment = sum(whole.values())
        spent = (self._segment - self._first_segment) * a_segment
        spent += before + whole[stage] * done / total
        if self._spent_before is None:
            self._start, self._spent_before = self._clock(), spent
        if spent == self._spent_before:
            return None
        all_of_it = (self._num_segments - self._first_segment) * a_segment
        pace = (self._clock() - self._start) / (spent - self._spent_before)
        return pace * (all_of_it - spent)


def duration_text(seconds: float) -> str:
    """A time as people say it: 8 s, 2 min 5 s, 1 h 20 min."""
    whole = max(round(seconds), 1)
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _make_bar() -> Any:
    """A bar that is gone at the end, with a task whose field `left` is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task("starting", total=None, left="")
    return bar
