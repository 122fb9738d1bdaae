"""Print the peak memory in bytes of this process after it ran one graph, or made one clip.

python bench/peak_memory.py BUNDLE ENGINE [STAGE GRAPH_FILE]
"""

import sys

import click
import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
from keyvid.engines.memory import peak_bytes
from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Settings


def run_graph(bundle: Bundle, engine: str, stage: str, file: str) -> None:
    graph = next(graph for graph in bundle.stages[stage].graphs if graph.file == file)
    call = open_engine(
        bundle, stage, engine=engine, branches=graph.branches, temporal=graph.temporal
    )
    call(**{name: np.zeros(spec.shape, spec.dtype) for name, spec in graph.inputs.items()})


def make_clip(bundle: Bundle, engine: str) -> None:
    """One step per U-Net: the peak does not depend on their number."""
    size = bundle.dimensions
    image = np.zeros((size.height, size.width, 3), np.uint8)
    silence = np.zeros(size.frames * size.sample_rate // size.fps, np.float32)
    pipeline = Pipeline.load(bundle.path, engine)
    pipeline(image, (silence, size.sample_rate), prompt="hammer", settings=Settings(steps=1))


def main() -> None:
    folder, engine, *graph = sys.argv[1:]
    bundle = Bundle.load(folder)
    if graph:
        run_graph(bundle, engine, *graph)
    else:
        make_clip(bundle, engine)
    click.echo(peak_bytes())


if __name__ == "__main__":
    main()
