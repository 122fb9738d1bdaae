"""Measuring calls side by side: interleaved rounds, medians, FLOP/s, peak memory.

What is measured is a `Candidate`, one of several ways to do the same `Case`. One that cannot be
used here is reported with its reason.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from bench.speed.measurement import Measurement
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


def measure(case: Case, device: torch.device, rounds: int) -> list[Measurement]:
    """A measurement of each candidate; they take turns, so that what disturbs one disturbs all."""
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
    return [
        Measurement(case.name, candidate.name, reasons[candidate.name])
        if candidate.name in reasons
        else Measurement(
            case.name,
            candidate.name,
            seconds=median(seconds[candidate.name]),
            rounds=rounds,
            flops=case.flops,
            matmul_rate=rates[candidate.dtype],
            peak_bytes=peaks[candidate.name],
            error=_relative_error(results, candidate.name) if case.flops else None,
        )
        for candidate in case.candidates
    ]


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


class PeakMemory:
    """The most memory from its making to `read`: on a GPU of torch's allocator or an engine."""

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
