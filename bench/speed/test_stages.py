"""Each stage on each engine: its largest graph, with the inputs bound that the runtime binds."""

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.conftest import Record
from bench.speed.peak_memory import measure_peak
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import GraphSpec
from keyvid.engines.engine import open_engine
from keyvid.export.flops import count_graph_flops

_PER_STEP = ("latent", "timestep")  # what changes from call to call in the denoise loop


@pytest.mark.benchmark(min_rounds=3)  # the U-Nets take seconds at full size
def test_stage(
    benchmark: BenchmarkFixture,
    record: Record,
    bundle: Bundle,
    stage: str,
    graph: GraphSpec,
    engine: str,
) -> None:
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.standard_normal(spec.shape, np.float32)
        if spec.dtype == "float32"
        else np.ones(spec.shape, spec.dtype)  # valid as token, timestep, fps and frame index
        for name, spec in graph.inputs.items()
    }
    call = open_engine(
        bundle, stage, engine=engine, branches=graph.branches, temporal=graph.temporal
    )
    if stage in ("generator", "interpolator"):
        call.bind(**{name: value for name, value in inputs.items() if name not in _PER_STEP})
        inputs = {name: inputs[name] for name in _PER_STEP}
    call(**inputs)  # the first call allocates

    outputs = benchmark(call, **inputs)

    call.close()
    assert all(np.isfinite(output).all() for output in outputs.values())
    peak = measure_peak(bundle, engine, stage, graph.file)
    flops = count_graph_flops(bundle.path / graph.file)
    record(graph.file.removesuffix(".onnx"), engine, flops, peak)
