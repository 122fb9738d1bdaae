"""Options, fixtures and the closing table of `pytest bench/`.

pytest bench/ [--bundle NAME_OR_FOLDER] [--engine NAME]... [--benchmark-json FILE]
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.speed.calls import matmul_rate
from bench.speed.measurement import Measurement, format_measurements
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.engine import probe_engine
from keyvid.engines.spec import ENGINES
from keyvid.errors import BundleError

_MEASURED = pytest.StashKey[list[Measurement]]()

Record = Callable[[str, str, int | None, int], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bundle", default="tiny", help="packaged name or folder of a bundle")
    parser.addoption("--engine", action="append", help="only this engine (may be repeated)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = []
    config.option.benchmark_quiet = True  # the table below says it shorter


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Engines vary fastest, so that those compared run close together in time."""
    try:
        bundle = Bundle.load(metafunc.config.getoption("--bundle"), verify=False)
    except BundleError as error:
        raise pytest.UsageError(str(error)) from error
    if "graph" in metafunc.fixturenames:
        cases = [(stage, graph) for stage in bundle.stages for graph in _largest(bundle, stage)]
        ids = [Path(graph.file).stem for _, graph in cases]
        metafunc.parametrize(("stage", "graph"), cases, ids=ids)
    if "engine" in metafunc.fixturenames:
        names = metafunc.config.getoption("--engine") or ENGINES
        unknown = set(names) - set(ENGINES)
        if unknown:
            raise pytest.UsageError(f"unknown engine {min(unknown)}; valid: {', '.join(ENGINES)}")
        metafunc.parametrize("engine", [_engine_parameter(name) for name in names])


def _largest(bundle: Bundle, stage: str) -> list[GraphSpec]:
    """The graphs of `stage` with the most guidance branches, one for each temporal mode."""
    graphs = bundle.stages[stage].graphs
    most = max(graph.branches or 0 for graph in graphs)
    return [graph for graph in graphs if (graph.branches or 0) == most]


def _engine_parameter(name: str) -> object:
    status = probe_engine(name)
    reason = f"{name} cannot be used: {status.detail}"
    return pytest.param(name, marks=pytest.mark.skipif(not status.available, reason=reason))


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """What --bundle names."""
    return Bundle.load(request.config.getoption("--bundle"))


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Record:
    """`record(case, engine, flops, peak_bytes)` after a benchmark: a line of the table.

    flops may be None where they are not known.

    The rate of a matrix product is measured beside each, because a shared machine does not stay
    as fast as it was.
    """
    rate = matmul_rate(torch.device("cpu"), torch.float32)

    def add(case: str, engine: str, flops: int | None, peak_bytes: int) -> None:
        assert benchmark.stats is not None
        stats = benchmark.stats.stats
        measured = Measurement(
            case,
            engine,
            seconds=stats.median,
            rounds=stats.rounds,
            flops=flops,
            matmul_rate=rate,
            peak_bytes=peak_bytes,
        )
        request.config.stash[_MEASURED].append(measured)
        benchmark.extra_info.update(measured.to_json())

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    measured = config.stash[_MEASURED]
    if not measured:
        return
    terminalreporter.section(f"bundle {config.getoption('--bundle')}")
    terminalreporter.write_line(format_measurements(measured))
    terminalreporter.write_line(
        "of matmul: share of the rate of a large float32 product beside it; bf16 can pass 100 %.\n"
        "peak: largest resident size of a fresh process that runs it once."
    )
