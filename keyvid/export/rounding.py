"""What half precision costs where each operator's result is rounded, as a GPU rounds it.

ONNX Runtime's CPU provider is no measure of that: it computes in float32, and drops the casts
between neighbouring nodes.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


def rounded(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`call` in float32, its inputs and the result of every operator rounded to float16.

    Normalisations stay whole, so that their sums are not rounded; attention is computed in steps.
    """

    def call_rounded(*inputs: Any, **named: Any) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH), _Rounding():
            return call(*tree_map(_round, inputs), **tree_map(_round, named))

    return call_rounded


@torch.no_grad()
def rounding_error(
    module: nn.Module, call: Callable[..., Tensor], samples: Iterable[tuple[Tensor, ...]]
) -> float:
    """The largest relative error of `call(module, *sample)` that rounding makes."""
    errors = []
    for sample in samples:
        want = call(module, *sample)
        got = rounded(call)(module, *sample)
        errors.append(float((got - want).norm() / want.norm()))
    return max(errors)


class _Rounding(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        return result if func.is_view else tree_map(_round, result)


def _round(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype == torch.float32:
        return value.half().float()
    return value
