"""How large the values in a network get, and which modules half precision needs in float32."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from keyvid.bundle.specs import HalfPrecision
from keyvid.export.rounding import rounding_error
from keyvid.export.scene import TIMESTEPS, JudgedScene, Scene
from keyvid.export.stages import Stage

# float16 ends at 65504. Three bits of room are for inputs that were not measured.
_END = torch.finfo(torch.float16).max
LIMIT = _END / 8

_aten = torch.ops.aten
# What only moves values that were counted where they were computed; views are known as such.
_MOVES = {
    _aten.cat,
    _aten.clone,
    _aten._to_copy,
    _aten._unsafe_view,
    _aten.constant_pad_nd,
    _aten.copy_,
    _aten.stack,
    _aten.upsample_nearest2d,
}


@dataclass
class Ranges:
    """Largest absolute values by module name, "" for the network itself.

    Attributes:
        values: of what the operators directly in a module give, attention scores among them.
        squares: for a normalisation, the largest sum of squares behind one variance.
        outputs: of what modules give to others, which has to fit float16 even from an island.
        rounding: relative error that rounding each result makes, see `keyvid.export.rounding`.
    """

    values: dict[str, float] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, float] = field(default_factory=dict)
    rounding: float | None = None

    @property
    def islands(self) -> tuple[str, ...]:
        """Modules beside normalisations whose values come too near the end of float16."""
        return tuple(sorted(name for name, value in self.values.items() if value > LIMIT))

    @property
    def too_large(self) -> tuple[str, ...]:
        """Modules whose output float16 cannot hold."""
        return tuple(sorted(name for name, value in self.outputs.items() if value > _END))

    def describe(self) -> HalfPrecision:
        """What the manifest keeps of it."""
        named = [name for name in self.values if name]  # beside them: the timestep, a sinusoid soon
        module = max(named, key=lambda name: self.values[name])
        return HalfPrecision(
            largest=self.values[module],
            module=module,
            norm_squares=max(self.squares.values(), default=0.0),
            norms=len(self.squares),
            islands=self.islands,
            rounding=self.rounding,
        )


@torch.no_grad()
def stage_ranges(stage: Stage, module: nn.Module, scene: Scene | JudgedScene) -> Ranges:
    """The ranges of a stage on real inputs: all guidance branches, temporal modes and noises."""
    most = stage.variants[0].branches
    timesteps = TIMESTEPS if most else TIMESTEPS[:1]
    ranges, roundings = Ranges(), []
    for variant in [variant for variant in stage.variants if variant.branches == most]:
        call = stage.call_of(variant)
        samples = [stage.real_inputs(scene.at(timestep), variant) for timestep in timesteps]
        measure_ranges(ranges, module, call, samples)
        roundings.append(rounding_error(module, call, samples))
    if not ranges.islands:  # it would round these, too
        ranges.rounding = max(roundings)
    return ranges


@torch.no_grad()
def measure_ranges(
    ranges: Ranges,
    module: nn.Module,
    call: Callable[..., Tensor],
    samples: Iterable[tuple[Tensor, ...]],
) -> None:
    """Widen `ranges` to `call(module, *sample)` of all samples; infinities, as in masks, aside.

    Attention is computed in steps, so that its scores are seen.
    """
    with sdpa_kernel(SDPBackend.MATH), _names_of_running(module, ranges) as running:
        for sample in samples:
            with _Recorder(ranges, running):
                call(module, *sample)


@contextmanager
def _names_of_running(module: nn.Module, ranges: Ranges) -> Iterator[list[str | None]]:
    """The modules that are being called, the innermost last; notes their outputs, under None."""
    running: list[str | None] = [""]
    hooks = []

    def leave(name: str, output: Any) -> None:
        running[-1] = None
        if isinstance(output, Tensor):
            _raise_to(ranges.outputs, name, _largest(output))
        running.pop()

    for name, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(lambda *_, name=name: running.append(name)))
        hooks.append(child.register_forward_hook(lambda _, __, out, name=name: leave(name, out)))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()


class _Recorder(TorchDispatchMode):
    """Notes in `ranges` what each operator gives, under the module that runs."""

    def __init__(self, ranges: Ranges, running: list[str | None]) -> None:
        super().__init__()
        self._ranges = ranges
        self._running = running

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        value = result[0] if isinstance(result, tuple) else result
        if func.is_view or func.overloadpacket in _MOVES or not isinstance(value, Tensor):
            return result
        name = self._running[-1]
        if name is None or not value.is_floating_point() or not value.numel():
            return result
        squares = _sum_of_squares(func, args)
        if squares is None:
            _raise_to(self._ranges.values, name, _largest(value))
        else:
            _raise_to(self._ranges.squares, name, squares)
        return result


def _sum_of_squares(func: Any, args: tuple[Any, ...]) -> float | None:
    """The largest one behind a variance or length, None for what is no normalisation."""
    x: Tensor
    if func is _aten.native_group_norm.default:
        x, *_, groups, _ = args
        rows = x.reshape(len(x) * groups, -1)
    elif func is _aten.native_layer_norm.default:
        x, shape, *_ = args
        rows = x.flatten(-len(shape))
    elif func is _aten.linalg_vector_norm.default:
        rows, *_ = args
    else:
        return None
    return float(rows.square().sum(-1).max())


def _largest(value: Tensor) -> float:
    return float(value.abs().nan_to_num(nan=0.0, posinf=0.0).max())


def _raise_to(largest: dict[str, float], name: str, value: float) -> None:
    largest[name] = max(largest.get(name, 0.0), value)
