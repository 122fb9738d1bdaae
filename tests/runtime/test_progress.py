"""Progress: which stage of how many, how far, and a forecast that comes true at an even pace."""

import os
import pty
import sys
from contextlib import suppress

import pytest

from keyvid.runtime.progress import Forecast, ProgressDisplay, duration_text


class Clock:
    """A time that the test moves."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_forecast_at_an_even_pace() -> None:
    """Each cost takes its time: what is left is what comes."""
    clock = Clock()
    forecast = Forecast(clock)
    assert forecast("vae_encoder", 0, 1) is None
    assert forecast("generator", 0, 10) is None
    for done in range(1, 11):
        clock.seconds += 1.0
        left = forecast("generator", done, 10)
        assert left == pytest.approx(10 - done + 26 + 1.4)
    for done in range(11):
        assert forecast("interpolator", done, 10) == pytest.approx(2.6 * (10 - done) + 1.4)
        clock.seconds += 2.6
    clock.seconds -= 2.6
    assert forecast("vae_decoder", 0, 24) == pytest.approx(1.4)
    clock.seconds += 1.4
    assert forecast("vae_decoder", 24, 24) == pytest.approx(0.0, abs=1e-9)


def test_forecast_with_an_interpolator_of_its_own_steps() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast("generator", 0, 10)
    clock.seconds += 10.0
    assert forecast("interpolator", 0, 4) == pytest.approx(4 * 2.6 + 1.4)


def test_forecast_of_a_long_clip_that_is_gone_on_with() -> None:
    """Segments that were there cost nothing, the others each as much."""
    clock = Clock()
    forecast = Forecast(clock)
    for segment in (7, 8, 9):
        forecast.enter_segment(segment, 10)
        for stage, seconds in (("generator", 10.0), ("interpolator", 26.0), ("vae_decoder", 1.4)):
            forecast(stage, 0, 10)
            clock.seconds += seconds
        left = (9 - segment) * 37.4
        assert forecast("vae_decoder", 10, 10) == pytest.approx(left, abs=1e-9)


def test_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay(8, clock) as progress:
        for stage, total in (("localizer", 1), ("generator", 12), ("interpolator", 2)):
            for done in range(total + 1):
                progress(stage, done, total)
                clock.seconds += 1.0
    assert capsys.readouterr().err.splitlines() == [
        "stage 2 of 8, generator: 3 of 12, 42 s left",
        "stage 2 of 8, generator: 8 of 12, 37 s left",
        "stage 3 of 8, interpolator: 0 of 2, 7 s left",
    ]


def test_a_long_clip_counts_segments(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressDisplay(8, clock) as progress:
        progress("segment", 2, 33)
        clock.seconds += 9.0
        progress("generator", 0, 12)
    assert capsys.readouterr().err == "segment 3 of 33, generator: 0 of 12\n"


def read_all(descriptor: int) -> str:
    """What was written to the other end of a terminal, which is closed."""
    parts = []
    with suppress(OSError):
        while part := os.read(descriptor, 100_000):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        clock = Clock()
        with ProgressDisplay(8, clock) as progress:
            progress("localizer", 1, 1)
            progress("generator", 0, 10)
            clock.seconds += 5.0
            progress("generator", 5, 10)
    shown = read_all(ours)
    assert "stage 2 of 8  generator" in shown
    assert "5/10" in shown
    assert "32 s left" in shown
    assert shown.endswith("\x1b[2K"), "the bar is gone"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (11.4, "11 s"), (60.0, "1 min 0 s"), (125, "2 min 5 s"), (4800, "1 h 20 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
