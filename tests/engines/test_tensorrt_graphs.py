"""The graphs of the packaged model under a real compiler, TensorRT for RTX, which takes no GPU."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.plan_cache import PlanCache
from keyvid.engines.plans import PlanOptions, PlanReport, build_plans
from keyvid.engines.tensorrt_library import TENSORRT_RTX, make_logger
from keyvid.export.build import build_bundle
from keyvid.export.inputs import open_source
from keyvid.export.stages import STAGES
from keyvid_ref.presets import PRESETS
from tests.engines.rtx import needs_rtx

pytestmark = needs_rtx

PLANS = PlanOptions("tensorrt-rtx", ("sm86", "sm89", "sm120"))
TINY = Bundle.load("tiny", verify=False)
GRAPHS = [graph.file for stage in TINY.stages.values() for graph in stage.graphs]
# One graph of each U-Net, those with the least work; the others differ in the number of branches
# and in the windows.
CHOSEN = {"generator": (1, None), "interpolator": (1, "full")}


@pytest.mark.parametrize("file", GRAPHS)
def test_the_parser_reads(file: str) -> None:
    trt = TENSORRT_RTX.load()
    logger = make_logger(trt)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(TINY.path / file)), parser.get_error(0).desc()
    assert network.num_layers > 50
    assert logger.errors == []


@pytest.fixture
def build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[], list[PlanReport]]:
    """Exports the packaged model in half precision and builds its plans; the compiler's doubts
    about precision fail.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.INFO, "keyvid")

    def run() -> list[PlanReport]:
        source = open_source(PRESETS["tiny"], [*STAGES], None, None, {}, False)
        build_bundle(source, tmp_path / "half", precision="fp16", verify=False)
        bundle = Bundle.load(tmp_path / "half")
        reports = list(build_plans(bundle, PLANS, bundle.stages))
        assert [line for line in caplog.messages if "precision" in line.lower()] == []
        assert len(list(PlanCache().entries())) == len(reports)
        assert all(report.record["activation_bytes"] > 0 for report in reports)
        return reports

    return run


def test_a_graph_of_each_stage_becomes_a_plan(
    build: Callable[[], list[PlanReport]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, chosen in CHOSEN.items():
        variants = STAGES[name].variants
        one = [v for v in variants if (v.branches, v.temporal) == chosen]
        monkeypatch.setitem(STAGES, name, replace(STAGES[name], variants=tuple(one)))
    assert len(build()) == len(STAGES)


@pytest.mark.slow
def test_all_graphs_become_plans(build: Callable[[], list[PlanReport]]) -> None:
    assert [report.graph for report in build()] == GRAPHS
