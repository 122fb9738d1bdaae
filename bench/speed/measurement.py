"""What is measured of one way to do something, and many of them as a table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keyvid.score.report import Table, number


@dataclass(frozen=True)
class Measurement:
    """One way to do a case.

    Attributes:
        case: what is done.
        way: who does it: an engine, or a variant of the reference.
        reason: why there are no numbers, None if there are.
        seconds: median of a call, over `rounds`.
        flops: of a call.
        matmul_rate: FLOP/s of a large product of the same type, measured beside it.
        peak_bytes: the most memory, of a fresh process that does it once (`pytest bench/speed`) or
            by how much one process grows (`python -m bench.speed`).
        error: ||result - that of the first way|| / ||that||; None of it, and of whole clips.
    """

    case: str
    way: str
    reason: str | None = None
    seconds: float | None = None
    rounds: int = 0
    flops: int | None = None
    matmul_rate: float | None = None
    peak_bytes: int | None = None
    error: float | None = None

    @property
    def flops_per_second(self) -> float | None:
        """FLOP/s achieved."""
        return self.flops / self.seconds if self.flops and self.seconds else None

    @property
    def share_of_matmul(self) -> float | None:
        """Of the rate of a large product."""
        rate = self.flops_per_second
        return rate / self.matmul_rate if rate and self.matmul_rate else None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "flops_per_second": self.flops_per_second}


def format_measurements(measurements: Sequence[Measurement]) -> str:
    """A table of those with numbers, then a line for each without."""
    header = ["case", "by", "median", "rounds", "GFLOP", "GFLOP/s", "of matmul", "peak", "error"]
    rows = [
        [
            m.case,
            m.way,
            f"{1e3 * m.seconds:.1f} ms",
            str(m.rounds),
            number(m.flops and m.flops / 1e9, ".2f"),
            number(m.flops_per_second and m.flops_per_second / 1e9, ".0f"),
            number(m.share_of_matmul, ".0%"),
            number(m.peak_bytes and m.peak_bytes / 2**20, ".0f", " MiB"),
            number(m.error, ".1e"),
        ]
        for m in measurements
        if m.seconds is not None
    ]
    without = [f"{m.case}, {m.way}: not available: {m.reason}" for m in measurements if m.reason]
    return "\n".join([*([str(Table(header, rows))] if rows else []), *without])
