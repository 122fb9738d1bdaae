"""Builds one TensorRT plan; run as a process of its own by `keyvid.engines.tensorrt_plan`.

A build takes memory that only the end of its process gives back, and may die of it. It reads a
`BuildRequest` as JSON from stdin and writes JSON lines to stdout: {"phase", "done", "total"} while
it works, then {"record": ...} or {"failure": ..., "again": ...}.
"""

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from keyvid.engines.backend import import_tensorrt
from keyvid.engines.gpu import free_bytes
from keyvid.errors import EngineError

_MAX_ERRORS = 5


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        graph: absolute path of the ONNX file; its weights lie beside it.
        plan: file to write.
        timing_cache: file of kernel timings, read if it is there, and written.
        workspace_bytes: scratch memory that a kernel may take.
        optimization_level: 0 (fast build) to 5.
        weight_streaming: whether weights may stay on the host.
        parent: process that waits; without it the build ends.
    """

    graph: str
    plan: str
    timing_cache: str
    workspace_bytes: int
    optimization_level: int
    weight_streaming: bool
    parent: int


class BuildError(Exception):
    """Why there is no plan, and whether less workspace may help."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


def main() -> None:
    """Build what stdin asks for."""
    request = BuildRequest(**json.load(sys.stdin))
    with _stdout_for_messages() as send:
        try:
            send({"record": build(request, send)})
        except BuildError as error:
            send({"failure": str(error), "again": error.again})
        except EngineError as error:
            send({"failure": str(error), "again": False})


def build(request: BuildRequest, send: Callable[[dict[str, Any]], None]) -> dict[str, float]:
    """Write the plan; gives seconds, bytes of memory at most, and the limit that it was built with.

    Raises:
        BuildError: TensorRT refuses the graph, or finds no way to run it.
    """
    start = perf_counter()
    trt = import_tensorrt()
    logger = trt.Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(0)  # 0: TensorRT 11 takes all types from the graph
    parser = trt.OnnxParser(network, logger)  # owns the weights: it has to outlive the build
    if not parser.parse_from_file(request.graph):
        raise BuildError(_describe_errors(parser), again=False)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if any(size < 0 for size in tensor.shape):
            raise BuildError(f"input {tensor.name!r} has no fixed shape", again=False)
    config = _configure(trt, builder, request)
    monitor = _make_monitor(trt, request.parent, send)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        if monitor.abandoned:
            raise BuildError("the process that asked for it has ended", again=False)
        raise BuildError("TensorRT found no way to run it, see its messages", again=True)
    Path(request.plan).write_bytes(plan)
    timing_cache = config.get_timing_cache()
    if timing_cache is not None:
        Path(request.timing_cache).write_bytes(timing_cache.serialize())
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": perf_counter() - start,
        "host_bytes": kilobytes * 1024,
        "gpu_bytes": monitor.gpu_bytes,
        "workspace_bytes": request.workspace_bytes,
    }


def _describe_errors(parser: Any) -> str:
    """What the parser complains of, in one line."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    described = [
        f"node {error.node_name() or error.node()} ({error.node_operator()}): "
        f"{' '.join(error.desc().split())}"
        for error in errors[:_MAX_ERRORS]
    ]
    return f"TensorRT cannot read the graph, {len(errors)} errors: {'; '.join(described)}"


def _configure(trt: Any, builder: Any, request: BuildRequest) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    config.builder_optimization_level = request.optimization_level
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 in the graph is meant
    if request.weight_streaming:
        config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)
    file = Path(request.timing_cache)
    timing_cache = config.create_timing_cache(file.read_bytes() if file.exists() else b"")
    if timing_cache is not None:
        config.set_timing_cache(timing_cache, False)  # False: of this device only
    return config


def _make_monitor(trt: Any, parent: int, send: Callable[[dict[str, Any]], None]) -> Any:
    """A progress monitor that reports each step, notes memory, and ends when `parent` is gone."""
    free_at_start = free_bytes()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.gpu_bytes = 0
            self.abandoned = False
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps
            send({"phase": phase_name, "done": 0, "total": num_steps})

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.gpu_bytes = max(self.gpu_bytes, free_at_start - free_bytes())
            total = self._totals.get(phase_name, 0)
            send({"phase": phase_name, "done": step + 1, "total": total})
            self.abandoned = os.getppid() != parent
            return not self.abandoned

        def phase_finish(self, phase_name: str) -> None:
            self._totals.pop(phase_name, None)

    return Monitor()


@contextmanager
def _stdout_for_messages() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Sends messages to stdout; what TensorRT prints there goes to stderr meanwhile."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as messages:
        os.dup2(2, 1)

        def send(message: dict[str, Any]) -> None:
            try:
                messages.write(json.dumps(message) + "\n")
                messages.flush()
            except BrokenPipeError:  # nobody waits; the monitor sees to the end
                pass

        yield send


if __name__ == "__main__":
    main()
