"""Options, fixtures and the closing table of `pytest bench/`.

pytest bench/ [--bundle NAME_OR_FOLDER] [--engine NAME]... [--benchmark-json FILE]
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import onnx
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.engine import ENGINES, probe_engine
from keyvid.errors import BundleError

_MATRIX_SIZE = 2048
_PEAK_MEMORY = Path(__file__).with_name("peak_memory.py")


@dataclass(frozen=True)
class Row:
    """One line of the table; `matmul_rate` is float32, FLOP/s, measured beside it."""

    stage: str
    engine: str
    seconds: float
    rounds: int
    flops: int
    matmul_rate: float
    peak_bytes: int


_ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bundle", default="tiny", help="packaged name or folder of a bundle")
    parser.addoption("--engine", action="append", help="only this engine (may be repeated)")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = []
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
    return Bundle.load(request.config.getoption("--bundle"))


@pytest.fixture
def matmul_rate() -> float:
    """FLOP/s of a float32 matrix product in NumPy, the median of five: what it can do now.

    Measured anew for each benchmark, because a shared machine does not stay as fast as it was.
    """
    matrix = np.ones((_MATRIX_SIZE, _MATRIX_SIZE), np.float32)
    seconds = []
    for _ in range(5):
        start = perf_counter()
        matrix @ matrix
        seconds.append(perf_counter() - start)
    return 2 * _MATRIX_SIZE**3 / median(seconds)


@pytest.fixture
def peak_memory() -> Callable[..., int]:
    """`peak_memory(bundle, engine, *graph)`: bytes that a fresh process needs at most."""

    def measure(bundle: Bundle, engine: str, *graph: str) -> int:
        command = [sys.executable, str(_PEAK_MEMORY), str(bundle.path), engine, *graph]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return measure


@pytest.fixture(scope="session")
def count_flops() -> Callable[[Path], int]:
    """`count_flops(path)`: floating point operations of a static ONNX graph, multiply-add = 2."""
    return _count_flops


def _count_flops(path: Path) -> int:
    """FLOPs of the matrix products and convolutions of the graph; the rest is not counted."""
    model = onnx.load(path, load_external_data=False)
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    flops = 0
    for node in graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            summed = shapes[node.input[0]][0 if transposed else -1]
        elif node.op_type == "Conv":
            summed = prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Attention", "ConvTranspose", "Einsum"):
            raise NotImplementedError(f"{path}: no rule to count {node.op_type}; add one")
        else:
            continue
        products = summed * prod(shapes[node.output[0]])
        if not products:
            raise ValueError(f"{path}: the shapes at {node.name} are not static")
        flops += 2 * products
    return flops


@pytest.fixture
def record(
    request: pytest.FixtureRequest, benchmark: object, matmul_rate: float
) -> Callable[..., None]:
    """`record(stage, engine, flops, peak_bytes)` after a benchmark: a line of the table."""

    def add(stage: str, engine: str, flops: int, peak_bytes: int) -> None:
        stats = benchmark.stats.stats  # type: ignore[attr-defined]
        row = Row(stage, engine, stats.median, stats.rounds, flops, matmul_rate, peak_bytes)
        request.config.stash[_ROWS].append(row)
        benchmark.extra_info.update(  # type: ignore[attr-defined]
            flops=flops,
            flops_per_second=flops / row.seconds,
            matmul_flops_per_second=matmul_rate,
            peak_memory_bytes=peak_bytes,
        )

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[_ROWS]
    if not rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section(f"bundle {config.getoption('--bundle')}")
    write(
        f"{'stage':<26}{'engine':<15}{'median':>11}{'rounds':>8}{'GFLOP':>10}"
        f"{'GFLOP/s':>9}{'of matmul':>11}{'peak':>10}"
    )
    for row in rows:
        rate = row.flops / row.seconds
        write(
            f"{row.stage:<26}{row.engine:<15}{1e3 * row.seconds:>8.1f} ms{row.rounds:>8}"
            f"{row.flops / 1e9:>10.2f}{rate / 1e9:>9.0f}{rate / row.matmul_rate:>11.0%}"
            f"{row.peak_bytes / 2**20:>7.0f} MB"
        )
    rates = [row.matmul_rate / 1e9 for row in rows]
    write(
        f"of matmul: share of a {_MATRIX_SIZE}x{_MATRIX_SIZE} float32 product in NumPy beside it "
        f"({min(rates):.0f} to {max(rates):.0f} GFLOP/s); bf16 can pass 100 %."
    )
    write("peak: largest resident size of a fresh process that runs it once.")
