"""The most memory that a fresh process takes which runs one graph, or makes one clip."""

import subprocess
import sys
from pathlib import Path

import click
import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
from keyvid.engines.memory import peak_bytes
from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Settings

_ROOT = Path(__file__).resolve().parents[2]


def measure_peak(bundle: Bundle, engine: str, *graph: str) -> int:
    """Bytes that a process with nothing else takes.

    Args:
        graph: a stage and the file of one of its graphs; none for a whole clip.
    """
    command = [sys.executable, "-m", __name__, str(bundle.path.resolve()), engine, *graph]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)
    return int(done.stdout)


def main() -> None:
    """Do what `measure_peak` asks for, and print the bytes."""
    folder, engine, *graph = sys.argv[1:]
    bundle = Bundle.load(folder)
    if graph:
        _run_graph(bundle, engine, *graph)
    else:
        _make_clip(bundle, engine)
    click.echo(peak_bytes())


def _run_graph(bundle: Bundle, engine: str, stage: str, file: str) -> None:
    graph = next(graph for graph in bundle.stages[stage].graphs if graph.file == file)
    call = open_engine(
        bundle, stage, engine=engine, branches=graph.branches, temporal=graph.temporal
    )
    call(**{name: np.zeros(spec.shape, spec.dtype) for name, spec in graph.inputs.items()})


def _make_clip(bundle: Bundle, engine: str) -> None:
    """One step per U-Net: the peak does not depend on their number."""
    size = bundle.dimensions
    image = np.zeros((size.height, size.width, 3), np.uint8)
    silence = np.zeros(size.frames * size.sample_rate // size.fps, np.float32)
    pipeline = Pipeline.load(bundle.path, engine)
    pipeline(image, (silence, size.sample_rate), prompt="hammer", settings=Settings(steps=1))


if __name__ == "__main__":
    main()
