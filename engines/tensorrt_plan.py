"""The TensorRT plan of a graph for this GPU: from the cache, or built in a process of its own."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from keyvid.bundle.external_data import external_files
from keyvid.bundle.files import known_sha256
from keyvid.engines.backend import import_tensorrt
from keyvid.engines.gpu import find_gpu, free_bytes
from keyvid.engines.plan_cache import PlanCache, key_of
from keyvid.engines.tensorrt_builder import BuildRequest
from keyvid.errors import EngineError

BUILDER_VERSION = 1  # a change in how plans are built makes old ones stale

_WORKSPACE_BYTES = 8 << 30
_MIN_WORKSPACE_BYTES = 256 << 20
_BUILDER = [sys.executable, "-P", "-m", "keyvid.engines.tensorrt_builder"]

Progress = Callable[[str, int, int], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildSettings:
    """How plans are built.

    Attributes:
        optimization_level: 0 (fast build) to 5 (fast engine).
        weight_streaming: weights may stay on the host, for a GPU that cannot hold them.
    """

    optimization_level: int = 3
    weight_streaming: bool = False


def load_plan(
    graph: Path,
    settings: BuildSettings,
    cache: PlanCache,
    progress: Progress | None = None,
) -> bytes:
    """The plan of the ONNX file at the absolute path `graph` for this GPU.

    Args:
        progress: called with phase, steps done and steps in all while a plan is built.

    Raises:
        EngineError: it cannot be built; says why.
    """
    ingredients = describe(graph, settings)
    timing_key = _timing_ingredients(ingredients)
    timings = cache.get(timing_key) or b""
    new_timings = b""

    def make(path: Path, lock: int) -> dict[str, float]:
        nonlocal new_timings
        log.warning("%s: building a TensorRT engine; it takes minutes, once", graph.name)
        timing_cache = path.with_name("timings")
        timing_cache.write_bytes(timings)
        try:
            record = _build(graph, path, timing_cache, settings, lock, progress or _log_progress)
            new_timings = timing_cache.read_bytes()
        finally:
            timing_cache.unlink(missing_ok=True)
        return record

    plan = cache.get_or_make(ingredients, make)
    if new_timings:
        cache.put(timing_key, new_timings)
    return plan


def describe(graph: Path, settings: BuildSettings) -> dict[str, str]:
    """All that a plan depends on: the ingredients of its key. Shapes and types lie in the graph."""
    names = sorted(external_files(graph))
    gpu = find_gpu()
    return {
        "kind": "tensorrt plan",
        "file": graph.name,
        "graph": known_sha256(graph),
        "weights": key_of({name: known_sha256(graph.with_name(name)) for name in names}),
        "tensorrt": str(import_tensorrt().__version__),
        "gpu": gpu.name,
        "gpu_bytes": str(gpu.memory_bytes),
        "compute_capability": gpu.compute_capability,
        "driver": gpu.driver,
        "cuda": gpu.cuda,
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "builder": str(BUILDER_VERSION),
    }


def _timing_ingredients(plan: dict[str, str]) -> dict[str, str]:
    """Key of the kernel timings: those of one device serve all graphs."""
    device = ("tensorrt", "gpu", "gpu_bytes", "compute_capability", "driver", "cuda")
    return {"kind": "tensorrt timings", **{name: plan[name] for name in device}}


def _build(
    graph: Path,
    plan: Path,
    timing_cache: Path,
    settings: BuildSettings,
    lock: int,
    progress: Progress,
) -> dict[str, float]:
    """Write the plan, with less workspace after each failure that it may help against."""
    failures: list[str] = []
    for limit in _workspace_limits():
        request = BuildRequest(
            str(graph), str(plan), str(timing_cache), limit, parent=os.getpid(), **asdict(settings)
        )
        outcome = _run_builder(request, lock, progress)
        if "record" in outcome:
            record: dict[str, float] = outcome["record"]
            return record
        failures.append(f"with {limit >> 20} MiB of workspace: {outcome['failure']}")
        if not outcome["again"]:
            raise EngineError(f"{graph.name}: {outcome['failure']}")
        log.warning("%s: %s", graph.name, failures[-1])
    raise EngineError(
        f"{graph.name}: no TensorRT engine could be built: {'; '.join(failures)}; "
        "close other programs that use the GPU, or take --engine cuda"
    )


def _workspace_limits() -> Iterator[int]:
    """Limits to try: half of what is free, 8 GiB at most, then a quarter of that each time."""
    limit = max(min(_WORKSPACE_BYTES, free_bytes() // 2), _MIN_WORKSPACE_BYTES)
    while limit >= _MIN_WORKSPACE_BYTES:
        yield limit
        limit //= 4


def _run_builder(request: BuildRequest, lock: int, progress: Progress) -> dict[str, Any]:
    """The last message of a builder process, a failure if it ended without one.

    It inherits the lock, so that no other build begins while it lives, whatever becomes of us.
    """
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            _BUILDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            pass_fds=(lock,),
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(asdict(request)))
            for line in process.stdout:
                message = json.loads(line)
                if "phase" in message:
                    progress(message["phase"], message["done"], message["total"])
                else:
                    outcome = message
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        said = _last_line(messages)
    if "record" in outcome and code == 0:
        return outcome
    if "failure" not in outcome:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        outcome = {"failure": f"the builder {how}", "again": code < 0}
    outcome["failure"] += f" ({said})" if said else ""
    return outcome


def _last_line(messages: IO[bytes]) -> str:
    """The last line that the builder wrote to stderr, 300 characters at most."""
    messages.seek(0)
    lines = messages.read().decode(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else ""


def _log_progress(phase: str, done: int, total: int) -> None:
    if done in (0, total):
        log.info("%s: %d of %d", phase, done, total)
