"""A network call as an ONNX graph whose weights stay in a safetensors file."""

import json
import warnings
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from math import prod
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common as passes
from onnxscript import optimizer
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from keyvid.bundle.specs import Form
from keyvid.export.forms import make_form
from keyvid_ref.unet_attention import UnitLength

# Group norm stays one node, attention becomes MatMul, Softmax, MatMul: every backend reads both.
OPSET = 21

_NORMS = (nn.GroupNorm, nn.LayerNorm, UnitLength)
_STORED_TYPES = {
    "F32": ir.DataType.FLOAT,
    "F16": ir.DataType.FLOAT16,
    "BF16": ir.DataType.BFLOAT16,
    "F64": ir.DataType.DOUBLE,
    "I64": ir.DataType.INT64,
}


def export_graph(
    module: nn.Module,
    call: Callable[..., Tensor],
    inputs: dict[str, Tensor],
    output: str,
    weights: Path,
    paths: Mapping[Form, Path],
) -> tuple[int, ...]:
    """Write `call(module, *inputs)` to `paths`; floating inputs and the output are float32.

    The graph computes in the type of the module's parameters. Each weight keeps its state-dict
    name and refers to `weights`, whatever type it has there, so that graphs can share the file.

    Args:
        module: may be on the meta device, as no weight is looked at.
        inputs: examples, by tensor name in the order of the call; the graph takes their shapes.
        weights: safetensors file with the state dict of `module`.
        paths: by form of the graph, see `keyvid.export.forms`; files beside `weights`.
    Returns:
        Shape of the output.
    """
    caller = _Caller(module, call).eval()
    device = next(module.parameters()).device
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        program = torch.onnx.export(
            caller,
            tuple(x.to(device) for x in inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,  # it would rename and transpose the weights
            input_names=list(inputs),
            output_names=[output],
            verbose=False,
        )
    assert program is not None
    model = program.model
    layout = _read_layout(weights)
    for name in layout:
        if (weight := model.graph.initializers.get(f"module.{name}")) is not None:
            weight.name, weight.const_value = name, None  # it may be a meta tensor
    _simplify(model, layout)
    for form, path in paths.items():
        made, stored = make_form(model, form), dict(layout)
        _view_stored(made.graph, stored)
        _store_outside(made.graph, stored)
        ir.save(made, path)
    shape = model.graph.outputs[0].shape
    assert shape is not None
    return shape.numpy()


def half_precision(module: nn.Module, islands: Collection[str] = ()) -> nn.Module:
    """A float16 copy in which normalisations and the modules named `islands` compute in float32.

    Normalisations add up squares, which float16 cannot hold, and divide by what may be as small as
    1e-12; see `keyvid.export.ranges`.
    """
    half = deepcopy(module).half()
    inside = tuple(f"{name}." for name in islands)
    for name, layer in half.named_modules():
        if name in islands or (isinstance(layer, _NORMS) and not name.startswith(inside)):
            layer.float()
            layer.register_forward_pre_hook(lambda _, inputs: tree_map(_to_float, inputs))
            layer.register_forward_hook(lambda _, __, output: output.half())
    return half


def _to_float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


class _Caller(nn.Module):
    """The call as a module, casting between float32 outside and the module's type inside."""

    def __init__(self, module: nn.Module, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self._call = call
        self._dtype = next(module.parameters()).dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        cast = [x.to(self._dtype) if x.is_floating_point() else x for x in inputs]
        return self._call(self.module, *cast).float()


def _simplify(model: ir.Model, weights: Collection[str]) -> None:
    """Fold what depends on neither inputs nor weights, and drop what is not used."""

    def should_fold(node: ir.Node) -> bool | None:
        names = {value.name for value in node.inputs if value is not None}
        return None if names.isdisjoint(weights) else False

    optimizer.fold_constants(model, onnx_shape_inference=True, should_fold=should_fold)
    _drop_zero_biases(model.graph)
    ir.passes.Sequential(
        passes.IdentityEliminationPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.ClearMetadataAndDocStringPass(),
    )(model)


def _drop_zero_biases(graph: ir.Graph) -> None:
    """Let a convolution without a bias have none.

    The exporter gives it zeros; onnxscript 0.7.2 gives one over three axes as many for each of
    two axes, which no engine takes.
    """
    for node in graph:
        if node.op_type != "Conv" or len(node.inputs) < 3 or node.inputs[2] is None:
            continue
        bias = ir.convenience.get_const_tensor(node.inputs[2])
        if bias is not None and not bias.numpy().any():
            node.resize_inputs(2)


def _view_stored(graph: ir.Graph, stored: dict[str, ir.ExternalTensor]) -> None:
    """Let a weight that is reshaped, or split along its rows, be weights where it is `stored`.

    Engines would fold these nodes, and may then hold copies beside the file.
    """
    for node in [node for node in graph if node.op_type in ("Reshape", "Split")]:
        weight = node.inputs[0]
        if weight is None or weight.name not in stored or node.attributes.get_int("axis", 0) != 0:
            continue
        whole, dtype = stored[weight.name], weight.dtype
        assert dtype is not None
        start = whole.offset or 0
        for index, part in enumerate(node.outputs):
            assert part.shape is not None
            sizes = part.shape.numpy()
            what = index if node.op_type == "Split" else "x".join(map(str, sizes))
            name = f"{weight.name}.{what}"
            stored[name] = ir.ExternalTensor(
                location=whole.location,
                offset=start,
                length=whole.nbytes * prod(sizes) // whole.size,
                dtype=whole.dtype,
                shape=part.shape,
                name=name,
                base_dir=whole.base_dir,
            )
            start += stored[name].nbytes
            if name not in graph.initializers:
                value = ir.Value(name=name, shape=part.shape, type=ir.TensorType(dtype))
                graph.initializers[name] = value
            part.replace_all_uses_with(graph.initializers[name])
        graph.remove(node, safe=True)
        if not weight.uses():
            del graph.initializers[weight.name]


def _store_outside(graph: ir.Graph, stored: dict[str, ir.ExternalTensor]) -> None:
    """Let weights refer to what is `stored`, with a Cast where that has another type."""
    casts = []
    for name in [name for name in stored if name in graph.initializers]:
        weight = graph.initializers[name]
        users, computed_type = list(weight.uses()), weight.dtype
        weight.const_value, weight.type = stored[name], ir.TensorType(stored[name].dtype)
        if weight.dtype != computed_type:
            assert computed_type is not None
            cast = ir.node("Cast", [weight], {"to": computed_type})
            cast.outputs[0].shape, cast.outputs[0].dtype = weight.shape, computed_type
            for user, index in users:
                user.replace_input_with(index, cast.outputs[0])
            casts.append(cast)
    graph.insert_before(graph[0], casts)


def _read_layout(path: Path) -> dict[str, ir.ExternalTensor]:
    """Every tensor of a safetensors file, as a reference to its place in the file."""
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(start - 8))
    header.pop("__metadata__", None)
    return {
        name: ir.ExternalTensor(
            location=path.name,
            offset=start + entry["data_offsets"][0],
            length=entry["data_offsets"][1] - entry["data_offsets"][0],
            dtype=_STORED_TYPES[entry["dtype"]],
            shape=ir.Shape(entry["shape"]),
            name=name,
            base_dir=path.parent,
        )
        for name, entry in header.items()
    }
