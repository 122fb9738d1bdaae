import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.torch import save_file
from torch import nn

from keyvid.export.graph import export_graph, half_precision


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)
        self.conv = nn.Conv2d(4, 8, 3)
        self.unused = nn.Linear(4, 4)
        self.register_buffer("table", torch.arange(8.0))

    def forward(self, x):
        mask = torch.ones(500, 8).tril().sum(0)  # depends on nothing: folded
        return self.conv(self.norm(x)).mean(dim=(2, 3)) * self.table + mask


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().eval()


@pytest.fixture
def export(tmp_path, network):
    def export_to(name, dtype, module=network):
        state = {key: value.to(dtype) for key, value in network.state_dict().items()}
        save_file(state, tmp_path / "weights.safetensors")
        inputs = {"pixels": torch.zeros(1, 4, 6, 6)}
        shape = export_graph(
            module,
            lambda net, x: net(x),
            inputs,
            "features",
            tmp_path / "weights.safetensors",
            {"plain": tmp_path / name},
        )
        assert shape == (1, 8)
        return tmp_path / name

    return export_to


def test_weights_keep_their_names_and_stay_outside(export, network):
    path = export("graph.onnx", torch.float16)
    outside = onnx.load(path, load_external_data=False)
    stored = {tensor.name: tensor for tensor in outside.graph.initializer if tensor.external_data}
    assert set(stored) == {"norm.weight", "norm.bias", "conv.weight", "conv.bias", "table"}
    assert {tensor.data_type for tensor in stored.values()} == {onnx.TensorProto.FLOAT16}
    inside = sum(len(tensor.raw_data) for tensor in outside.graph.initializer)
    assert inside < 1000  # the sum of the mask, not the mask
    loaded = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    for name in stored:
        value = torch.from_numpy(onnx.numpy_helper.to_array(loaded[name]).copy())
        torch.testing.assert_close(value, network.state_dict()[name].half(), rtol=0, atol=0)
    onnx.checker.check_model(str(path), full_check=True)


def test_casts_only_where_the_stored_type_differs(export, network):
    half, full = (export(f"{dtype}.onnx", dtype) for dtype in (torch.float16, torch.float32))
    count = [
        sum(node.op_type == "Cast" for node in onnx.load(path).graph.node) for path in (half, full)
    ]
    assert count == [5, 0]


def test_half_precision_keeps_norms_in_float32(export, network):
    half = half_precision(network)
    assert network.conv.weight.dtype == torch.float32
    graph = onnx.load(export("half.onnx", torch.float16, half)).graph
    onnx.checker.check_model(onnx.load(export("half.onnx", torch.float16, half)), full_check=True)
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    (norm,) = (node for node in graph.node if node.op_type == "GroupNormalization")
    (conv,) = (node for node in graph.node if node.op_type == "Conv")
    assert types[norm.output[0]] == onnx.TensorProto.FLOAT
    assert types[conv.output[0]] == onnx.TensorProto.FLOAT16
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


class Gated(nn.Module):
    """A product of the halves of one layer, each computed by itself."""

    def __init__(self):
        super().__init__()
        self.proj = nn.Linear(4, 16)

    def forward(self, x):
        weight, bias = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        value, gate = (nn.functional.linear(x, *half) for half in zip(weight, bias, strict=True))
        return value * gate


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_parts_of_a_weight_lie_where_it_lies(tmp_path, dtype):
    network, weights = Gated(), tmp_path / "weights.safetensors"
    save_file({key: value.to(dtype) for key, value in network.state_dict().items()}, weights)
    path = tmp_path / "graph.onnx"
    x = torch.randn(3, 4)
    export_graph(network, lambda net, x: net(x), {"x": x}, "y", weights, {"plain": path})
    model = onnx.load(path)
    assert "Split" not in {node.op_type for node in model.graph.node}
    loaded = {tensor.name: tensor for tensor in model.graph.initializer}
    names = ["proj.weight.0", "proj.weight.1", "proj.bias.0", "proj.bias.1"]
    assert sorted(loaded) == sorted(names)
    parts = [x for whole in network.state_dict().values() for x in whole.to(dtype).chunk(2)]
    for name, part in zip(names, parts, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(loaded[name]), part.numpy()), name
    onnx.checker.check_model(str(path), full_check=True)
    (got,) = InferenceSession(path).run(None, {"x": x.numpy()})
    with torch.no_grad():
        network.load_state_dict({k: v.to(dtype).float() for k, v in network.state_dict().items()})
        torch.testing.assert_close(torch.from_numpy(got), network(x))
