"""Graphs of a few hundred bytes that ask for gigabytes: refused, whatever they do it with."""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from keyvid.bundle.manifest import Bundle
from keyvid.engines import memory
from keyvid.engines.engine import open_engine
from keyvid.engines.memory import MemoryExceededError, memory_allowed, peak_bytes
from keyvid.errors import BundleError

NUM_VALUES = 2**30
DOUBLINGS = 30
pytestmark = [
    pytest.mark.security,
    pytest.mark.skipif("sys.platform != 'linux'", reason="the limit is Linux's"),
]


def _fill() -> list[onnx.NodeProto]:
    return [helper.make_node("ConstantOfShape", ["size"], ["large"])]


def _expand() -> list[onnx.NodeProto]:
    return [helper.make_node("Expand", ["one", "size"], ["large"])]


def _double(start: str) -> list[onnx.NodeProto]:
    names = [start, *(f"double{i}" for i in range(DOUBLINGS - 1)), "large"]
    return [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]


@pytest.fixture(params=["fill", "expand", "double", "double an input"])
def greedy_bundle(
    affine_bundle: Bundle,
    model_at: Callable[..., onnx.ModelProto],
    request: pytest.FixtureRequest,
) -> Bundle:
    """The bundle of "affine" whose graph makes four gigabytes on its way."""
    path = affine_bundle.path / "affine.onnx"
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    graph.node[-1].output[0] = "before"
    grow = {
        "fill": _fill,
        "expand": _expand,
        "double": lambda: _double("one"),
        "double an input": lambda: [
            helper.make_node("ReduceSum", ["x"], ["sum of x"], keepdims=0),
            helper.make_node("Reshape", ["sum of x", "length"], ["first"]),
            *_double("first"),
        ],
    }[request.param]
    graph.node.extend(
        [
            *grow(),
            helper.make_node("ReduceMax", ["large"], ["all"], keepdims=0),
            helper.make_node("Add", ["before", "all"], ["y"]),
        ]
    )
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([NUM_VALUES]), "size"),
            numpy_helper.from_array(np.array([1]), "length"),
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
        ]
    )
    path.write_bytes(model.SerializeToString())
    return affine_bundle


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_graph_takes_no_more_than_the_manifest_says(
    greedy_bundle: Bundle, engine: str, affine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_ROOM_BYTES", 64 * 2**20)
    before = peak_bytes()
    with pytest.raises(
        BundleError, match=r"asks for much more memory than the .* that bundle.json"
    ):
        open_engine(greedy_bundle, "affine", engine=engine, threads=1)(**affine.draw(0))
    assert peak_bytes() - before < 2**30
    np.ones(2**27, np.uint8)  # the limit has gone


def test_limits_of_several_threads_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_allowed(2**28):
        one, _ = resource.getrlimit(resource.RLIMIT_DATA)
        with memory_allowed(2**30):
            both, _ = resource.getrlimit(resource.RLIMIT_DATA)
        assert one + 2**30 < both
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] < both
        with pytest.raises(MemoryExceededError), memory_allowed(1):
            np.ones(2**36, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
    with memory_allowed(None):
        assert resource.getrlimit(resource.RLIMIT_DATA) == limits
