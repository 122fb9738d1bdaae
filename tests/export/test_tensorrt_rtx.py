"""Half-precision graphs in small under a real compiler, TensorRT for RTX, which takes no GPU.

Their operators are those of the packaged model's, see `tests/engines/tensorrt/test_graphs.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from keyvid.bundle.manifest import Bundle
from keyvid.engines.tensorrt.plans import PlanReport
from tests.engines.rtx import build, needs_rtx, parse

__all__ = ["build"]  # a fixture

pytestmark = needs_rtx


def test_the_parser_reads_each_graph(exported_half: Path) -> None:
    bundle = Bundle.load(exported_half)
    for stage in bundle.stages:
        for graph in bundle.graphs(stage):
            parse(bundle.path / graph.file, least_layers=10)


def test_a_graph_of_each_stage_becomes_a_plan(
    exported_half: Path, build: Callable[[Bundle], list[PlanReport]]
) -> None:
    bundle = Bundle.load(exported_half)
    one = {
        name: replace(stage, graphs=tuple(bundle.graphs(name)[-1:]))
        for name, stage in bundle.stages.items()
    }
    assert len(build(replace(bundle, stages=one))) == len(one)
