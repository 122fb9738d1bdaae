"""The published size in half precision, as far as the engines' documentation tells.

Graphs are traced without numbers and only refer to weights, so an empty file of the right layout
will do. That every node is documented does not prove that TensorRT finds kernels.
"""

import json
from pathlib import Path

import pytest
from torch import nn

from keyvid.export.cuda_check import find_cpu_nodes
from keyvid.export.graph import export_graph, half_precision
from keyvid.export.liveness import graph_memory
from keyvid.export.stages import STAGES, Variant
from keyvid.export.tensorrt_check import find_problems
from keyvid.export.verify import known_sample
from keyvid_ref.presets import PRESETS
from keyvid_ref.unet import UNet
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
    weights = tmp_path / "weights.safetensors"
    write_layout(module, weights)
    sample = known_sample(stage.inputs(_FULL, variant))
    paths = {form: tmp_path / f"{form}.onnx" for form in ("plain", "cuda")}
    export_graph(
        half_precision(module), stage.call_of(variant), sample, stage.output, weights, paths
    )
    assert find_problems(paths["plain"]) == []
    assert find_cpu_nodes(paths["cuda"]) == []
    if isinstance(module, UNet):  # whose largest value is the scores over all pixels of a frame
        memory = {form: graph_memory(path) for form, path in paths.items()}
        assert memory["plain"].scores > memory["plain"].values
        assert memory["cuda"].scores == 0
        assert memory["cuda"].values <= 1.1 * memory["plain"].values
