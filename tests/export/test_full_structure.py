"""The published size in half precision, as far as TensorRT's documentation tells.

Graphs are traced without numbers and only refer to weights, so an empty file of the right layout
will do. That every node is documented does not prove that TensorRT finds kernels.
"""

import json
from pathlib import Path

import pytest
from torch import nn

from keyvid.export.graph import export_graph, half_precision
from keyvid.export.stages import STAGES, Variant
from keyvid.export.tensorrt_check import find_problems
from keyvid.export.verify import known_sample
from keyvid_ref.presets import PRESETS
from keyvid_ref.weights import outline_network

_FULL = PRESETS["keyvid-512"]

pytestmark = pytest.mark.slow

CASES = [
    *((name, Variant()) for name in STAGES if name not in ("generator", "interpolator")),
    ("generator", Variant(4)),
    ("interpolator", Variant(4, "windows")),
    ("interpolator", Variant(4, "full")),
]


def write_layout(module: nn.Module, path: Path) -> None:
    """Half-precision weights of a module as a safetensors file that is one hole."""
    entries, end = {}, 0
    for name, value in module.state_dict().items():
        start, end = end, end + 2 * value.numel()
        shape = list(value.shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)


@pytest.mark.parametrize(("name", "variant"), CASES, ids=[n + v.suffix for n, v in CASES])
def test_static_proof(tmp_path, name, variant):
    stage = STAGES[name]
    module = outline_network(_FULL, stage.weights)
    weights, graph = tmp_path / "weights.safetensors", tmp_path / "graph.onnx"
    write_layout(module, weights)
    sample = known_sample(stage.inputs(_FULL, variant))
    export_graph(
        half_precision(module), stage.call_of(variant), sample, stage.output, weights, graph
    )
    assert find_problems(graph) == []
