"""Floating point operations of a torch module, see `keyvid.export.flops`; nothing is run.

With several branches it has more than the exported graph, which computes once what they share.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_module_flops(
    module: nn.Module, call: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> int:
    """FLOPs of `call(module, *inputs)`.

    Args:
        module: on any device, also "meta".
        inputs: examples, of which only shapes and types count.
    """
    # Attention in steps, whose products are all counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call(_outline(module), *(x.to("meta") for x in inputs))
    return int(counter.get_total_flops())


def _outline(module: nn.Module) -> nn.Module:
    """A copy of the module without the numbers in its parameters and buffers."""
    copies: dict[int, object] = {
        id(x): torch.empty_like(x, device="meta") for x in module.buffers()
    }
    for x in module.parameters():
        copies[id(x)] = nn.Parameter(torch.empty_like(x, device="meta"))
    return deepcopy(module, copies)
