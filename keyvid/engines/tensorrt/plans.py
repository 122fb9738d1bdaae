"""The TensorRT plans of a bundle, built before they are needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from keyvid.bundle.external_data import check_external_data
from keyvid.bundle.manifest import Bundle
from keyvid.engines.cache import Cache, plan_folder
from keyvid.engines.engine import choose_engine
from keyvid.engines.gpu import find_gpu
from keyvid.engines.tensorrt.bundled_plans import add_plan
from keyvid.engines.tensorrt.plan import SETTINGS, build_plan, describe
from keyvid.errors import SettingsError

PLAN_ENGINES = tuple(SETTINGS)


@dataclass(frozen=True)
class PlanOptions:
    """Which plans are built, and how.

    Attributes:
        engine: one of `PLAN_ENGINES`.
        targets: GPUs that they are for, where the library builds ahead of time.
        memory_bytes: what the build of one may take on this machine, None for no limit.
        into_bundle: whether they are put into the bundle, instead of the user's cache.
    """

    engine: str
    targets: tuple[str, ...] = ()
    memory_bytes: int | None = None
    into_bundle: bool = False

    @classmethod
    def parse(
        cls, engine: str, target: str | None, memory_bytes: int | None, into_bundle: bool
    ) -> "PlanOptions":
        """Options from a command line, checked against what can be done here.

        Raises:
            SettingsError: they do not go together.
            EngineError: the library is missing, or no GPU is there where one is needed.
        """
        if engine not in PLAN_ENGINES:
            raise SettingsError(f"unknown engine {engine!r}; valid: {', '.join(PLAN_ENGINES)}")
        library = SETTINGS[engine].library
        if not library.builds_ahead:
            for given, option in ((target, "--target"), (into_bundle, "--with-plans")):
                if given:
                    raise SettingsError(
                        f"{option}: {engine} builds on the GPU that a plan is for, and for no "
                        "other; take --engine tensorrt-rtx"
                    )
        if target:
            targets = library.parse_targets(target)
            library.load()
        else:
            choose_engine(engine)
            targets = (library.target(find_gpu()),) if library.builds_ahead else ()
        return cls(engine, targets, memory_bytes, into_bundle)


@dataclass(frozen=True)
class PlanReport:
    """A plan that was built, or had been.

    Attributes:
        graph: name of the ONNX file.
        bytes: of the plan.
        record: what was seen while it was built, see `keyvid.engines.tensorrt.builder.build`.
    """

    graph: str
    bytes: int
    record: dict[str, float]


def build_plans(
    bundle: Bundle,
    options: PlanOptions,
    stages: Iterable[str],
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[PlanReport]:
    """Build the plans of `stages`, each in a process of its own; each report when it is done.

    What is in its place already is not built again.

    Args:
        progress: called with a line before each graph and now and then while its plan is built.

    Raises:
        EngineError: a plan cannot be built; those before it stay.
    """
    cache, settings = Cache(plan_folder()), SETTINGS[options.engine]
    graphs = [graph for stage in stages for graph in bundle.graphs(stage)]
    for number, graph in enumerate(graphs, 1):
        progress(f"{graph.file}: plan {number} of {len(graphs)}")
        check_external_data(bundle, graph.file)
        path = bundle.path.resolve() / graph.file

        def report(line: str, file: str = graph.file) -> None:
            progress(f"{file}: {line}")

        if options.into_bundle:
            ingredients = describe(path, settings, options.targets)
            if ingredients in (bundle.plans or {}).values():
                report("is in the bundle")
                continue
        plan = build_plan(path, settings, cache, options.targets, options.memory_bytes, report)
        record = cache.record(plan.ingredients)
        if options.into_bundle:
            add_plan(bundle.path.resolve(), plan, cache)
            cache.discard(plan.ingredients)
        yield PlanReport(graph.file, len(plan.content), record)


def format_plans(reports: Sequence[PlanReport]) -> str:
    """A line per plan: its size, the time and memory of its build, and what it needs to run."""
    lines = [
        f"{'plan':<32} {'size':>10} {'time':>8} {'CPU time':>9} {'host memory':>12} "
        f"{'GPU memory':>11} {'activations':>12}"
    ]
    for report in reports:
        took, cpu = report.record["seconds"], report.record["cpu_seconds"]
        host, gpu, activations = (
            report.record[f"{kind}_bytes"] / 2**20 for kind in ("host", "gpu", "activation")
        )
        lines.append(
            f"{report.graph:<32} {report.bytes / 1e6:>7.1f} MB {took:>6.1f} s "
            f"{cpu:>7.1f} s {host:>8.0f} MiB {gpu:>7.0f} MiB {activations:>8.1f} MiB"
        )
    return "\n".join(lines)
