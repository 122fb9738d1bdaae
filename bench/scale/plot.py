"""An answer as a drawing."""

from pathlib import Path

import matplotlib.figure

from bench.scale.questions import Answer


def draw_answer(answer: Answer, path: Path) -> None:
    """Write a PNG of its lines."""
    figure = matplotlib.figure.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, points in answer.lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    if answer.is_log:
        axes.set_xscale("log")
    axes.set(title=answer.title, xlabel=answer.x, ylabel=answer.y, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=100, metadata={"Software": None})
