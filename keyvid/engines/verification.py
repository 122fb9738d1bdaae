"""Engines against the reference, without torch: error, time and memory of each graph.

A bundle holds the outcome of one call per graph, see `Check`. Its inputs are drawn here again, so
that only the outcome takes space; of that, `NUM_POINTS` numbers spread over the output are kept,
which estimate a relative error to about 4 %.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from keyvid.bundle.files import known_sha256
from keyvid.bundle.manifest import MANIFEST, Bundle
from keyvid.bundle.specs import Check, GraphSpec
from keyvid.engines.engine import EngineChoice, open_engine
from keyvid.engines.gpu import free_bytes
from keyvid.engines.memory import process_bytes
from keyvid.engines.spec import ENGINES, EngineSpec
from keyvid.errors import BundleError, EngineError

# Of ||graph - reference|| / ||reference||, float32 on the same inputs. float32 graphs differ by
# the order of sums; half precision keeps 11 bits in each of some hundred operations.
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2}
NUM_POINTS = 256
_NUM_CALLS = 3
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class GraphReport:
    """What was seen of a graph on an engine.

    Attributes:
        error: relative error against the reference, None if the bundle does not hold its outcome.
        tolerance: the largest that the precision explains.
        seconds: of a call, the median after a first one.
        host_bytes, gpu_bytes: memory that the process and the GPU have less while it is open,
            None where that cannot be seen.
    """

    graph: str
    error: float | None
    tolerance: float
    seconds: float
    host_bytes: int | None
    gpu_bytes: int | None

    @property
    def passed(self) -> bool:
        """Whether the error, if there is one, is within the tolerance; NaN is not."""
        return self.error is None or self.error <= self.tolerance


def known_input(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 numbers, always the same for an input of that name and shape."""
    return np.random.default_rng([*name.encode()]).standard_normal(shape, np.float32)


def make_check(inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> Check:
    """What to keep of a reference call; floating inputs must be those of `known_input`."""
    integers = {k: x for k, x in inputs.items() if x.dtype == np.int64}
    return Check(
        integers={name: _encode(x, "<i8") for name, x in integers.items()},
        outputs={name: _encode(_points(x), "<f4") for name, x in outputs.items()},
    )


def verify_engine(
    bundle: Bundle, engine: str, progress: Callable[[str], None] = lambda _: None
) -> Iterator[GraphReport]:
    """Run each graph of `bundle` on the engine of that name, and compare where that is possible."""
    spec = ENGINES[engine]
    for name, stage in bundle.stages.items():
        tolerance = spec.tolerance or TOLERANCE[stage.precision]
        for graph in bundle.graphs(name, spec.form):
            progress(graph.file)
            yield _verify_graph(bundle, name, graph, spec, tolerance)


def _verify_graph(
    bundle: Bundle, stage: str, graph: GraphSpec, spec: EngineSpec, tolerance: float
) -> GraphReport:
    inputs = _inputs(graph)
    host, gpu = process_bytes(), _free_gpu_bytes()
    opened = open_engine(
        bundle, stage, engine=spec.name, branches=graph.branches, temporal=graph.temporal
    )
    try:
        outputs = opened(**inputs)  # the first call allocates
        host_bytes = _difference(process_bytes(), host)
        gpu_bytes = _difference(gpu, _free_gpu_bytes())
        seconds = []
        for _ in range(_NUM_CALLS):
            start = perf_counter()
            opened(**inputs)
            seconds.append(perf_counter() - start)
    finally:
        opened.close()
    error = _error(graph.check, outputs) if graph.check else None
    return GraphReport(graph.file, error, tolerance, median(seconds), host_bytes, gpu_bytes)


def _inputs(graph: GraphSpec) -> dict[str, np.ndarray]:
    """The inputs of the reference call; without one, valid ones."""
    integers = graph.check.integers if graph.check else {}
    inputs = {}
    for name, spec in graph.inputs.items():
        if spec.dtype == "float32":
            inputs[name] = known_input(name, spec.shape)
        elif name in integers:
            inputs[name] = _decode(integers[name], "<i8", spec.shape, graph.file)
        else:
            inputs[name] = np.ones(spec.shape, np.int64)  # valid as token, timestep, fps and frame
    return inputs


def _error(check: Check, outputs: dict[str, np.ndarray]) -> float:
    """The largest relative error of the outputs, NaN where one is not finite."""
    errors = []
    for name, text in check.outputs.items():
        points = _points(outputs[name]).astype(np.float64)
        want = _decode(text, "<f4", points.shape, name)
        finite = np.isfinite(outputs[name]).all()
        errors.append(np.linalg.norm(points - want) / np.linalg.norm(want) if finite else np.nan)
    return float(max(errors))


def _points(output: np.ndarray) -> np.ndarray:
    """`NUM_POINTS` of its numbers at steps of the golden ratio, which no axis is a multiple of."""
    index = (np.arange(NUM_POINTS) * _GOLDEN % 1 * output.size).astype(np.int64)
    return output.reshape(-1)[index]


def _encode(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(array.astype(dtype).tobytes()).decode()


def _decode(text: str, dtype: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        return np.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype).reshape(shape)
    except ValueError as error:
        raise BundleError(f"{MANIFEST}: check of {where}: {error}; export it again") from None


def write_record(
    folder: Path, bundle: Bundle, choice: EngineChoice, reports: list[GraphReport]
) -> Path:
    """Write what was seen to a file in `folder` that is the bundle's and the engine's; gives it."""
    path = folder / f"{bundle.name}-{known_sha256(bundle.path / MANIFEST)[:12]}-{choice.name}.json"
    content = {
        "bundle": str(bundle.path.resolve()),
        "engine": asdict(choice),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "graphs": [asdict(report) for report in reports],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}; make the folder writable") from error
    return path


def format_reports(reports: list[GraphReport]) -> str:
    """A line per graph: error, time of a call, memory."""
    lines = [f"{'graph':<32} {'error':>12} {'allowed':>8} {'call':>12} {'host':>10} {'GPU':>10}"]
    for report in reports:
        error = "no reference" if report.error is None else f"{report.error:.1e}"
        lines.append(
            f"{report.graph:<32} {error:>12} {report.tolerance:>8.0e} "
            f"{1e3 * report.seconds:>9.1f} ms {_mib(report.host_bytes):>10} "
            f"{_mib(report.gpu_bytes):>10}" + ("" if report.passed else "  too far off")
        )
    return "\n".join(lines)


def _mib(num_bytes: int | None) -> str:
    return "-" if num_bytes is None else f"{num_bytes / 2**20:.0f} MiB"


def _free_gpu_bytes() -> int | None:
    try:
        return free_bytes()
    except EngineError:
        return None


def _difference(larger: int | None, smaller: int | None) -> int | None:
    return None if larger is None or smaller is None else max(larger - smaller, 0)
