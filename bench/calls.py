"""Measuring calls side by side: interleaved rounds, medians, FLOP/s, peak memory.

What is measured is a `Candidate`, one of several ways to do the same `Case`. One that cannot be
used here is reported with its reason.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from keyvid.engines.memory import peak_bytes, process_bytes

_MATRIX_SIZE = {"cuda": 8192, "cpu": 1024}

Call = Callable[[], Any]


@dataclass(frozen=True)
class Candidate:
    """One way to do a case.

    Attributes:
        open: gives the call, whose result is a tensor; raises what says why it cannot be used.
        dtype: of its matrix products, for the rate that it is compared with.
        uses_torch: whether torch's allocator knows its memory.
    """

    name: str
    open: Callable[[], Call]
    dtype: torch.dtype
    uses_torch: bool = True


@dataclass(frozen=True)
class Case:
    """What several candidates do.

    Attributes:
        flops: of one call, None where the candidates differ in it.
        warm_ups: at least one; engines allocate in the first call, on a GPU record in the second.
    """

    name: str
    candidates: Sequence[Candidate]
    flops: int | None
    warm_ups: int = 2


@dataclass(frozen=True)
class Row:
    """A candidate in a case.

    Attributes:
        reason: why there are no numbers, None if there are.
        seconds: median of a call, over `rounds`.
        error: ||result - that of the first candidate|| / ||that||; None of it, and of whole clips.
        flops_per_second, matmul_flops_per_second: achieved, and by a large product of its type.
        peak_bytes: on a GPU, of torch's allocator, or what an engine takes; on a CPU by how much
            the process grows.
    """

    case: str
    candidate: str
    reason: str | None = None
    seconds: float | None = None
    error: float | None = None
    rounds: int = 0
    flops_per_second: float | None = None
    matmul_flops_per_second: float | None = None
    peak_bytes: int | None = None


def measure(case: Case, device: torch.device, rounds: int) -> list[Row]:
    """A row for each candidate; they take turns, so that what disturbs one disturbs all."""
    calls: dict[str, Call] = {}
    peaks: dict[str, int | None] = {}
    reasons: dict[str, str] = {}
    results: dict[str, Any] = {}
    for candidate in case.candidates:
        memory = PeakMemory(device, candidate.uses_torch)
        try:
            call = candidate.open()
            for _ in range(case.warm_ups):
                results[candidate.name] = call()
            synchronise(device)
        except Exception as error:  # whatever it is, the others go on
            lines = str(error).strip().splitlines()
            reasons[candidate.name] = lines[0] if lines else type(error).__name__
            continue
        calls[candidate.name], peaks[candidate.name] = call, memory.read()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(time_call(call, device))
    rates = {c.dtype: matmul_rate(device, c.dtype) for c in case.candidates if c.name in calls}
    rows = []
    for candidate in case.candidates:
        name = candidate.name
        if name in reasons:
            rows.append(Row(case.name, name, reasons[name]))
            continue
        typical = median(seconds[name])
        rate = case.flops / typical if case.flops else None
        matmul = rates[candidate.dtype]
        error = _relative_error(results, name) if case.flops else None
        peak = peaks[name]
        rows.append(Row(case.name, name, None, typical, error, rounds, rate, matmul, peak))
    return rows


def _relative_error(results: dict[str, Tensor], name: str) -> float | None:
    first = next(iter(results))
    if name == first:
        return None
    want, got = (results[key].double().cpu() for key in (first, name))
    return float((got - want).norm() / want.norm())


def time_call(call: Call, device: torch.device) -> float:
    """Seconds until all that the call began on the device is done."""
    synchronise(device)
    start = perf_counter()
    call()
    synchronise(device)
    return perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a square matrix product of that type, the median of five: what it can do now."""
    size = _MATRIX_SIZE[device.type]
    matrix = torch.ones(size, size, dtype=dtype, device=device)
    seconds = [time_call(lambda: matrix @ matrix, device) for _ in range(6)]
    return 2 * size**3 / median(seconds[1:])


def count_flops(module: nn.Module, call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> int:
    """FLOPs of the matrix products and convolutions of a call, multiply-add = 2; nothing is run.

    Args:
        module: on any device, also "meta".
        inputs: examples, of which only shapes and types count.
    """
    # Attention in steps, whose products are all counted.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call(_outline(module), *(x.to("meta") for x in inputs))
    return counter.get_total_flops()


def _outline(module: nn.Module) -> nn.Module:
    """A copy of the module without the numbers in its parameters and buffers."""
    copies: dict[int, object] = {
        id(x): torch.empty_like(x, device="meta") for x in module.buffers()
    }
    for x in module.parameters():
        copies[id(x)] = nn.Parameter(torch.empty_like(x, device="meta"))
    return deepcopy(module, copies)


class PeakMemory:
    """The most memory from its making to `read`, see `Row.peak_bytes`."""

    def __init__(self, device: torch.device, uses_torch: bool) -> None:
        self._device = device
        self._uses_torch = uses_torch
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._start = torch.cuda.mem_get_info(device)[0]
        else:
            with suppress(OSError):  # else the peak is that of the process so far
                Path("/proc/self/clear_refs").write_text("5")
            self._start = process_bytes()

    def read(self) -> int | None:
        """Bytes; None where the system does not say."""
        if self._device.type == "cuda":
            if self._uses_torch:
                return torch.cuda.max_memory_allocated(self._device)
            return max(self._start - torch.cuda.mem_get_info(self._device)[0], 0)
        peak = peak_bytes()
        return None if peak is None else max(peak - self._start, 0)


def format_rows(rows: Sequence[Row]) -> str:
    """A line per row: time, rate, share of the matrix product's rate, memory, or the reason."""
    columns = f"{'median':>11} {'TFLOP/s':>8} {'matmul':>7} {'peak':>9} {'error':>8}"
    lines = [f"{'case':<34} {'variant':<12} {columns}"]
    for row in rows:
        line = f"{row.case:<34} {row.candidate:<12} "
        if row.seconds is None:
            lines.append(f"{line}not available: {row.reason}")
            continue
        rate, share = "-", "-"
        if row.flops_per_second and row.matmul_flops_per_second:
            rate = f"{row.flops_per_second / 1e12:.2f}"
            share = f"{row.flops_per_second / row.matmul_flops_per_second:.0%}"
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB"
        error = "-" if row.error is None else f"{row.error:.1e}"
        lines.append(
            f"{line}{1e3 * row.seconds:>8.1f} ms {rate:>8} {share:>7} {peak:>9} {error:>8}"
        )
    return "\n".join(lines)
