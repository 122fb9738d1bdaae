"""Forms of a graph: the same computation in the operators that a family of engines runs best.

The plain form is what torch's exporter gives; the form for CUDA is made of it, rule by rule. All
its operators have kernels on both of ONNX Runtime's devices, so that it can be verified on a CPU.
"""

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript.rewriter.pattern import ANY_VALUE, RewriteRule, RewriteRuleSet
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule

from keyvid.bundle.specs import Form

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_RUNTIME = "com.microsoft"  # the domain of ONNX Runtime's own operators
_HEADS_FIRST = (0, 2, 1, 3)


def make_form(plain: ir.Model, form: Form) -> ir.Model:
    """The graph in that form; `plain` stays as it is."""
    model = plain.clone()
    for rule in _RULES[form]:
        RewriteRuleSet([rule]).apply_to_model(model)
    ir.passes.Sequential(
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.ShapeInferencePass(),
    )(model)
    return model


def _attention(op: Any, query: Any, key: Any, value: Any, by_query: Any, by_key: Any) -> Any:
    """Attention as the exporter writes it, of projections (N, tokens, heads * d)."""

    def heads_first(x: Any, **named: Any) -> Any:
        return op.Transpose(op.Reshape(x, ANY_VALUE), perm=_HEADS_FIRST, **named)

    queries, keys = heads_first(query, _outputs=["queries"]), heads_first(key)
    keys = op.Transpose(op.Reshape(keys, ANY_VALUE), perm=(0, 2, 1))
    keys = op.Reshape(keys, ANY_VALUE)  # (N, heads, d, tokens)
    scores = op.MatMul(op.Mul(queries, by_query), op.Mul(keys, by_key))
    result = op.MatMul(op.Softmax(scores, axis=-1), heads_first(value))
    return op.Reshape(op.Transpose(result, perm=_HEADS_FIRST), ANY_VALUE)


def _fused_attention(
    op: Any,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    by_query: ir.Value,
    by_key: ir.Value,
    queries: ir.Value,
) -> Any:
    """One node: no scores among the values, and no heads that are put first."""
    return op.MultiHeadAttention(
        query,
        key,
        value,
        num_heads=_shape(queries)[1],
        scale=_number(by_query) * _number(by_key),
        _domain=_RUNTIME,
        _version=1,
    )


def _norm_in_half(operator: str) -> RewriteRule:
    """A normalisation without casts: CUDA's kernels take halves and add up in float32."""

    def in_float32(op: Any, x: Any, scale: Any, bias: Any) -> Any:
        norm = getattr(op, operator)
        return op.Cast(norm(op.Cast(x, to=_FLOAT), scale, bias, _outputs=["normed"]), to=_HALF)

    def is_half(_: Any, x: ir.Value, **__: Any) -> bool:
        return x.dtype == _HALF

    def in_half(op: Any, x: ir.Value, scale: ir.Value, bias: ir.Value, normed: ir.Value) -> Any:
        scale.type = bias.type = ir.TensorType(_HALF)  # weights that nothing else reads
        return getattr(op, operator)(x, scale, bias, **_attributes(normed))

    return RewriteRule(in_float32, in_half, is_half, remove_nodes=False)


def _group_norm(op: Any, x: Any, scale: Any, bias: Any) -> Any:
    return op.GroupNormalization(x, scale, bias, _outputs=["normed"])


def _instance_norm(op: Any, x: ir.Value, scale: ir.Value, bias: ir.Value, normed: ir.Value) -> Any:
    """Each group as an instance, then scale and bias by channel.

    CUDA has no kernel for group norms, so that ONNX Runtime would take a dozen steps. With all
    instances in one batch cuDNN needs a single call.
    """
    shape, attributes = _shape(x), _attributes(normed)
    assert x.dtype is not None
    num_instances = shape[0] * attributes["num_groups"].as_int()

    def constant(values: np.ndarray) -> Any:
        return op.Constant(value=ir.tensor(values))

    def reshape(value: ir.Value, sizes: tuple[int, ...]) -> Any:
        return op.Reshape(value, constant(np.array(sizes, np.int64)))

    ones, zeros = (make(num_instances, x.dtype.numpy()) for make in (np.ones, np.zeros))
    instances = op.InstanceNormalization(
        reshape(x, (1, num_instances, prod(shape) // num_instances)),
        constant(ones),
        constant(zeros),
        epsilon=attributes["epsilon"],
    )
    by_channel = (shape[1], *[1] * (len(shape) - 2))
    scaled = op.Mul(reshape(instances, shape), reshape(scale, by_channel))
    return op.Add(scaled, reshape(bias, by_channel))


# Applied one after the other: what one makes may be what the next looks for. What is computed
# inside a pattern stays where something else uses it.
_RULES: dict[Form, tuple[RewriteRule, ...]] = {
    "plain": (),
    "cuda": (
        RewriteRule(_attention, _fused_attention, remove_nodes=False),
        _norm_in_half("LayerNormalization"),
        _norm_in_half("GroupNormalization"),
        RewriteRule(_group_norm, _instance_norm, remove_nodes=False),
        fuse_pad_into_conv_rule,  # many versions of ONNX Runtime have no kernel for padding
    ),
}


def _shape(value: ir.Value) -> tuple[int, ...]:
    assert value.shape is not None
    return value.shape.numpy()


def _attributes(value: ir.Value) -> dict[str, ir.Attr]:
    """Those of the node that computes the value."""
    node = value.producer()
    assert node is not None
    return dict(node.attributes)


def _number(value: ir.Value) -> float:
    tensor = ir.convenience.get_const_tensor(value)
    assert tensor is not None, "attention is scaled by numbers"
    return float(tensor.numpy().item())
