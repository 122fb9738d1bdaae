"""TensorRT for RTX where it is installed: its parser and compiler; and GPUs that are not there."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.cache import Cache, plan_folder
from keyvid.engines.gpu import Gpu
from keyvid.engines.tensorrt.library import TENSORRT_RTX, make_logger
from keyvid.engines.tensorrt.plans import PlanOptions, PlanReport, build_plans

needs_rtx = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None,
    reason="TensorRT for RTX is not installed; pip install 'keyvid[rtx]'",
)
ADA = Gpu("NVIDIA GeForce RTX 4090", "8.9", "13.0", "13.0", 24 << 30)
BLACKWELL = Gpu("NVIDIA GeForce RTX 5090", "12.0", "13.0", "13.0", 32 << 30)
HOPPER = Gpu("NVIDIA H200", "9.0", "13.0", "13.0", 141 << 30)
PLANS = PlanOptions("tensorrt-rtx", ("sm86", "sm89", "sm120"))


def parse(path: Path, least_layers: int = 50) -> None:
    """See that the parser reads a graph as so many layers or more, without a complaint."""
    trt = TENSORRT_RTX.load()
    logger = make_logger(trt)
    network = trt.Builder(logger).create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse_from_file(str(path)), parser.get_error(0).desc()
    assert network.num_layers > least_layers
    assert logger.errors == []


@pytest.fixture
def build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[[Bundle], list[PlanReport]]:
    """Builds the plans of a bundle; the compiler's doubts about precision fail."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.INFO, "keyvid")

    def run(bundle: Bundle) -> list[PlanReport]:
        reports = list(build_plans(bundle, PLANS, bundle.stages))
        assert [line for line in caplog.messages if "precision" in line.lower()] == []
        assert len(list(Cache(plan_folder()).entries())) == len(reports)
        assert all(report.record["activation_bytes"] > 0 for report in reports)
        return reports

    return run
