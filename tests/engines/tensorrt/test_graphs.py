"""The graphs of the packaged model under a real compiler, TensorRT for RTX, which takes no GPU.

Those in half precision are traced first, which takes minutes; `tests/export/test_tensorrt_rtx.py`
has them in small each time.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.tensorrt.plans import PlanReport
from keyvid.export.build import build_bundle
from keyvid.export.source import Source
from keyvid.export.stages import STAGES
from keyvid_ref.presets import PRESETS
from tests.engines.rtx import build, needs_rtx, parse

__all__ = ["build"]  # a fixture

pytestmark = needs_rtx

TINY = Bundle.load("tiny", verify=False)
GRAPHS = [graph.file for stage in TINY.stages.values() for graph in stage.graphs]
# Of a U-Net in each temporal mode that of two branches: tracing all 12 takes minutes. What is left
# out has no other nodes, as `test_branches_bring_no_nodes` sees in the packaged graphs.
LEFT_OUT = [file for file in GRAPHS if any(f".b{branches}" in file for branches in (1, 3, 4))]
TRACED = [file for file in GRAPHS if file not in LEFT_OUT]


def export_half(folder: Path) -> Bundle:
    """The packaged model in half precision, unverified, so that nothing is computed."""
    source = Source.open(PRESETS["tiny"], "tiny")
    build_bundle(source, folder, precision="fp16", verify=False)
    return Bundle.load(folder)


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """The graphs `TRACED` in half precision."""
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in STAGES.items():
            variants = [v for v in stage.variants if f"{name}{v.suffix}.onnx" in TRACED]
            patch.setitem(STAGES, name, replace(stage, variants=tuple(variants)))
        yield export_half(tmp_path_factory.mktemp("half") / "bundle")


@pytest.mark.parametrize("file", GRAPHS)
def test_the_parser_reads_float32(file: str) -> None:
    parse(TINY.path / file)


@pytest.mark.slow
@pytest.mark.parametrize("file", TRACED)
def test_the_parser_reads_half_precision(half: Bundle, file: str) -> None:
    parse(half.path / file)


@pytest.mark.parametrize("file", LEFT_OUT)
def test_branches_bring_no_nodes(file: str) -> None:
    """Those of three and four are the nodes of two, those of one a part of them."""

    def nodes(name: str) -> list[Any]:
        graph = onnx.load(TINY.path / name, load_external_data=False).graph
        for node in graph.node:
            del node.input[:], node.output[:]
            node.name = ""
            for attribute in node.attribute:
                attribute.ClearField("t")  # a constant is a size
        return [node.SerializeToString() for node in graph.node]

    name, branches, *rest = file.split(".")
    got, two = nodes(file), nodes(".".join([name, "b2", *rest]))
    if branches == "b1":
        assert Counter(got) < Counter(two)
    else:
        assert got == two


@pytest.mark.slow
def test_a_graph_of_each_stage_becomes_a_plan(
    half: Bundle, build: Callable[[Bundle], list[PlanReport]]
) -> None:
    one = {name: replace(stage, graphs=stage.graphs[-1:]) for name, stage in half.stages.items()}
    assert len(build(replace(half, stages=one))) == len(STAGES)


@pytest.mark.slow
def test_all_graphs_become_plans(
    tmp_path: Path, build: Callable[[Bundle], list[PlanReport]]
) -> None:
    assert [report.graph for report in build(export_half(tmp_path / "half"))] == GRAPHS
