"""The TensorRT plan of a graph: found in the cache, or built there."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from keyvid.bundle.external_data import external_files
from keyvid.bundle.files import known_sha256
from keyvid.engines.cache import Cache, key_of
from keyvid.engines.gpu import Gpu, find_gpu, free_bytes
from keyvid.engines.tensorrt.builder import BuildRequest
from keyvid.engines.tensorrt.library import TENSORRT, TENSORRT_RTX, Library
from keyvid.engines.tensorrt.process import run_builder
from keyvid.errors import EngineError

BUILDER_VERSION = 2  # a change in how plans are built makes old ones stale

_WORKSPACE_BYTES = 8 << 30
_MIN_WORKSPACE_BYTES = 256 << 20
_TIMINGS = "timings"
_TARGETS = "targets"
_ADVICE = "close other programs, or take --engine cuda"

Ingredients = dict[str, str]
Make = Callable[[Path, int], dict[str, float]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildSettings:
    """How plans are built.

    Attributes:
        library: whose plans.
        optimization_level: 0 (fast build) to 5 (fast engine).
        weight_streaming: weights may stay on the host, for a GPU that cannot hold them.
    """

    library: Library
    optimization_level: int = 3
    weight_streaming: bool = False


# Engine -> how its plans are built.
SETTINGS = {
    "tensorrt": BuildSettings(TENSORRT),
    "tensorrt-rtx": BuildSettings(TENSORRT_RTX),
    "tensorrt-streaming": BuildSettings(TENSORRT, weight_streaming=True),
}


@dataclass(frozen=True)
class Plan:
    """A plan, and all that it depends on."""

    ingredients: Ingredients
    content: bytes


def describe(graph: Path, settings: BuildSettings, targets: tuple[str, ...] = ()) -> Ingredients:
    """All that a plan depends on: the ingredients of its key. Shapes and types lie in the graph.

    Args:
        graph: absolute path of an ONNX file.
        targets: GPUs, where the library builds for GPUs that are elsewhere; else it is this one.
    """
    library = settings.library
    names = sorted(external_files(graph))
    chosen = {
        "optimization_level": settings.optimization_level,
        "weight_streaming": settings.weight_streaming,
    }
    return {
        "kind": f"{library.title} plan",
        "file": graph.name,
        "graph": known_sha256(graph),
        "weights": key_of({name: known_sha256(graph.with_name(name)) for name in names}),
        "version": str(library.load().__version__),
        "settings": json.dumps(chosen),
        "builder": str(BUILDER_VERSION),
        **({_TARGETS: ",".join(targets)} if library.builds_ahead else describe_gpu(find_gpu())),
    }


def describe_gpu(gpu: Gpu) -> Ingredients:
    """What kernels that were chosen or compiled on a GPU depend on."""
    return {
        "gpu": gpu.name,
        "gpu_bytes": str(gpu.memory_bytes),
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "cuda": gpu.cuda,
    }


def targets_of(ingredients: Ingredients) -> tuple[str, ...]:
    """The GPUs that a plan was built for ahead of time; none where it was built on its GPU."""
    text = ingredients.get(_TARGETS, "")
    return tuple(text.split(",")) if text else ()


def find_fitting(
    plans: list[Ingredients], graph: Path, settings: BuildSettings, gpu: Gpu
) -> Ingredients | None:
    """The one of `plans` that is of this graph and for this GPU, for the fewest others as well."""
    wanted = describe(graph, settings)
    fitting = [
        plan
        for plan in plans
        if wanted | {_TARGETS: plan.get(_TARGETS, "")} == plan
        and settings.library.fits(targets_of(plan), gpu)
    ]
    return min(fitting, key=lambda plan: len(plan[_TARGETS]), default=None)


def find_plan(graph: Path, settings: BuildSettings, cache: Cache, gpu: Gpu) -> Plan | None:
    """The plan in the cache of the ONNX file at the absolute path `graph` for this GPU."""
    if settings.library.builds_ahead:
        plans = [entry.ingredients for _, entry in cache.entries() if entry]
        ingredients = find_fitting(plans, graph, settings, gpu)
    else:
        ingredients = describe(graph, settings)
    content = cache.get(ingredients) if ingredients else None
    return Plan(ingredients, content) if ingredients and content is not None else None


def build_plan(
    graph: Path,
    settings: BuildSettings,
    cache: Cache,
    targets: tuple[str, ...] = (),
    memory_bytes: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Plan:
    """The plan of the ONNX file at the absolute path `graph`, built if the cache has none.

    Args:
        targets: GPUs, where the library builds ahead of time; else it is for this machine's.
        memory_bytes: what the build may take on this machine.
        progress: called with a line now and then while a plan is built.

    Raises:
        EngineError: it cannot be built; says why.
    """
    library = settings.library
    ingredients = describe(graph, settings, targets)

    def make(path: Path, lock: int) -> dict[str, float]:
        log.warning("%s: building its %s plan; it takes minutes, once", graph.name, library.title)
        request = BuildRequest(
            library=library.module,
            graph=str(graph),
            plan=str(path),
            optimization_level=settings.optimization_level,
            weight_streaming=settings.weight_streaming,
            targets=targets,
            timing_cache=str(path.with_name(_TIMINGS)),
            workspace_bytes=None,
            memory_bytes=memory_bytes,
            parent=os.getpid(),
        )
        if library.builds_ahead:
            return _build(request, [None], lock, progress)
        return _build(request, [*_workspace_limits()], lock, progress)

    if library.builds_ahead:
        return Plan(ingredients, cache.get_or_make(ingredients, make))
    return Plan(ingredients, _get_or_make_timed(cache, ingredients, make))


def _get_or_make_timed(cache: Cache, ingredients: Ingredients, make: Make) -> bytes:
    """`cache.get_or_make` with the kernel timings of earlier builds, which serve all graphs."""
    device = ("version", "gpu", "gpu_bytes", "compute_capability", "driver", "cuda")
    timing_key = {"kind": "kernel timings", **{name: ingredients[name] for name in device}}
    timings, new_timings = cache.get(timing_key) or b"", b""

    def make_timed(path: Path, lock: int) -> dict[str, float]:
        nonlocal new_timings
        file = path.with_name(_TIMINGS)
        file.write_bytes(timings)
        try:
            record = make(path, lock)
            new_timings = file.read_bytes()
        finally:
            file.unlink(missing_ok=True)
        return record

    content = cache.get_or_make(ingredients, make_timed)
    if new_timings:
        cache.put(timing_key, new_timings)
    return content


def _build(
    request: BuildRequest,
    limits: list[int | None],
    lock: int,
    progress: Callable[[str], None],
) -> dict[str, float]:
    """Write the plan, with the next limit of workspace after each failure that it may help."""
    name, failures = Path(request.graph).name, []
    for limit in limits:
        outcome = run_builder(replace(request, workspace_bytes=limit), lock, progress)
        if "record" in outcome:
            record: dict[str, float] = outcome["record"]
            return record
        workspace = f"with {limit >> 20} MiB of workspace: " if limit else ""
        failures.append(f"{workspace}{outcome['failure']}")
        if not outcome["again"]:
            raise EngineError(f"{name}: {outcome['failure']}")
        log.warning("%s: %s", name, failures[-1])
    raise EngineError(f"{name}: {'; '.join(failures)}; {_ADVICE}")


def _workspace_limits() -> Iterator[int]:
    """Limits to try: half of what is free, 8 GiB at most, then a quarter of that each time."""
    limit = max(min(_WORKSPACE_BYTES, free_bytes() // 2), _MIN_WORKSPACE_BYTES)
    while limit >= _MIN_WORKSPACE_BYTES:
        yield limit
        limit //= 4
