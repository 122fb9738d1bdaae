"""The TensorRT plans of a bundle, built before they are needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from keyvid.bundle.external_data import check_external_data
from keyvid.bundle.manifest import Bundle
from keyvid.engines.plan_cache import PlanCache
from keyvid.engines.tensorrt_engine import SETTINGS
from keyvid.engines.tensorrt_plan import describe, load_plan

PLAN_ENGINES = tuple(SETTINGS)


@dataclass(frozen=True)
class PlanReport:
    """A plan that is in the cache.

    Attributes:
        graph: name of the ONNX file.
        bytes: of the plan.
        record: what was seen while it was built, see `keyvid.engines.tensorrt_builder.build`.
    """

    graph: str
    bytes: int
    record: dict[str, float]


def build_plans(
    bundle: Bundle,
    engine: str,
    stages: Iterable[str],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[PlanReport]:
    """Build the plans that `engine` of `PLAN_ENGINES` needs for `stages`; each one when it is done.

    What is in the cache stays as it is, with the record of when it was built.

    Args:
        progress: called with a line before each graph and each phase of its build.

    Raises:
        EngineError: a plan cannot be built; those before it stay in the cache.
    """
    cache, settings = PlanCache(), SETTINGS[engine]
    graphs = [graph for stage in stages for graph in bundle.stage(stage).graphs]
    for number, graph in enumerate(graphs, 1):
        progress(f"{graph.file}: plan {number} of {len(graphs)}")
        check_external_data(bundle, graph.file)
        path = bundle.path.resolve() / graph.file

        def report_phase(phase: str, done: int, total: int, file: str = graph.file) -> None:
            if done == 0:
                progress(f"{file}: {phase}, {total} steps")

        plan = load_plan(path, settings, cache, report_phase)
        yield PlanReport(graph.file, len(plan), cache.record(describe(path, settings)))


def format_plans(reports: Sequence[PlanReport]) -> str:
    """A line per plan: its size, and the time and memory that its build took."""
    lines = [f"{'plan':<32} {'size':>10} {'time':>8} {'host memory':>12} {'GPU memory':>11}"]
    for report in reports:
        record = report.record
        host, gpu = (record[key] / 2**20 for key in ("host_bytes", "gpu_bytes"))
        lines.append(
            f"{report.graph:<32} {report.bytes / 1e6:>7.1f} MB {record['seconds']:>6.1f} s "
            f"{host:>8.0f} MiB {gpu:>7.0f} MiB"
        )
    return "\n".join(lines)
