"""Builds one TensorRT plan; run as a process of its own by `keyvid.engines.tensorrt.process`.

A build takes memory that only the end of its process gives back, and may die of it. It reads a
`BuildRequest` as JSON from stdin and writes JSON lines to stdout: {"progress": ...} while it works,
then {"record": ...} or {"failure": ..., "again": ...}.
"""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

from keyvid.engines.gpu import free_bytes
from keyvid.engines.memory import peak_bytes
from keyvid.engines.tensorrt.library import LIBRARIES, PORTABLE, Library, make_logger
from keyvid.errors import EngineError
from keyvid.sizes import format_size

_MAX_ERRORS = 5
_LOOK_EVERY_SECONDS = 0.1
_REPORT_EVERY_SECONDS = 10

Send = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        library: a key of `LIBRARIES`.
        graph: absolute path of the ONNX file; its weights lie beside it.
        plan: file to write.
        optimization_level: 0 (fast build) to 5.
        weight_streaming: whether weights may stay on the host.
        targets: GPUs as in `Library.parse_targets`; empty for a library that builds on the GPU.
        timing_cache: file of kernel timings, used and written anew if it is there.
        workspace_bytes: scratch memory that a kernel may take; None for the library's choice.
        memory_bytes: what the process may take on this machine; None for no limit.
        parent: process that waits; without it the build ends.
    """

    library: str
    graph: str
    plan: str
    optimization_level: int
    weight_streaming: bool
    targets: tuple[str, ...]
    timing_cache: str
    workspace_bytes: int | None
    memory_bytes: int | None
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


def build(request: BuildRequest, send: Send) -> dict[str, float]:
    """Write the plan; gives what was seen, in seconds and bytes.

    Raises:
        BuildError: the library refuses the graph, or finds no way to run it.
    """
    start = perf_counter()
    library = LIBRARIES[request.library]
    trt = library.load()
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(0)  # 0: types are those of the graph, in both libraries
    parser = trt.OnnxParser(network, logger)  # owns the weights: it has to outlive the build
    if not parser.parse_from_file(request.graph):
        raise BuildError(_describe_errors(library, parser), again=False)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if any(size < 0 for size in tensor.shape):
            raise BuildError(f"input {tensor.name!r} has no fixed shape", again=False)
    config = _configure(trt, builder, request)
    monitor = _make_monitor(trt, library)
    config.progress_monitor = monitor
    watch = threading.Thread(target=_watch, args=(request, monitor, send), daemon=True)
    watch.start()  # the library may compute for minutes without a step
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = "; ".join(logger.errors[:1]) or "it does not say why"
        raise BuildError(f"{library.title} builds no plan: {why}", again=True)
    Path(request.plan).write_bytes(plan)
    if Path(request.timing_cache).exists():
        timing_cache = config.get_timing_cache()
        Path(request.timing_cache).write_bytes(timing_cache.serialize())
    return {
        "seconds": perf_counter() - start,
        "cpu_seconds": process_time(),
        "host_bytes": peak_bytes(),
        "gpu_bytes": monitor.gpu_bytes,
        "activation_bytes": logger.activation_bytes,
        **({"workspace_bytes": request.workspace_bytes} if request.workspace_bytes else {}),
    }


def _describe_errors(library: Library, parser: Any) -> str:
    """What the parser complains of, in one line."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    described = [
        f"node {error.node_name() or error.node()} ({error.node_operator()}): "
        f"{' '.join(error.desc().split())}"
        for error in errors[:_MAX_ERRORS]
    ]
    return f"{library.title} cannot read the graph, {len(errors)} errors: {'; '.join(described)}"


def _configure(trt: Any, builder: Any, request: BuildRequest) -> Any:
    config = builder.create_builder_config()
    config.builder_optimization_level = request.optimization_level
    config.clear_flag(trt.BuilderFlag.TF32)  # float32 in the graph is meant
    if request.weight_streaming:
        config.set_flag(trt.BuilderFlag.WEIGHT_STREAMING)
    if request.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    targets = [target for target in request.targets if target != PORTABLE]
    if targets:
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            capability = getattr(trt.ComputeCapability, target.upper())
            config.set_compute_capability(capability, index)
    if (file := Path(request.timing_cache)).exists():
        timing_cache = config.create_timing_cache(file.read_bytes())
        config.set_timing_cache(timing_cache, False)  # False: of this device only
    return config


def _make_monitor(trt: Any, library: Library) -> Any:
    """A progress monitor whose `state` says how far a build is; it notes the GPU's memory."""

    def used_bytes() -> int:
        return 0 if library.builds_ahead else -free_bytes()

    used_at_start = used_bytes()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.gpu_bytes = 0
            self.state = "begins"
            self._totals: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._totals[phase_name] = num_steps
            self.state = phase_name

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.gpu_bytes = max(self.gpu_bytes, used_bytes() - used_at_start)
            self.state = f"{phase_name}, {step + 1} of {self._totals.get(phase_name, 0)}"
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._totals.pop(phase_name, None)

    return Monitor()


def _watch(request: BuildRequest, monitor: Any, send: Send) -> None:
    """Report how far it is, now and then; end the process where it takes too much memory, or when
    its parent is gone.

    A limit of the system (`setrlimit`) would not do: the library waits forever for a thread of its
    own that found no memory.
    """
    start = reported = perf_counter()
    while os.getppid() == request.parent:
        now, limit = perf_counter(), request.memory_bytes
        if limit and peak_bytes() > limit:
            allowed = f"more than the {format_size(limit)} that --max-memory allows"
            what_next = "allow more, or build the plan on a larger machine"
            send({"failure": f"its build takes {allowed}; {what_next}", "again": False})
            break
        if now - reported >= _REPORT_EVERY_SECONDS:
            reported = now
            took = f"{now - start:.0f} s, {peak_bytes() >> 20} MiB"
            send({"progress": f"{took}: {monitor.state}"})
        sleep(_LOOK_EVERY_SECONDS)
    os._exit(1)


@contextmanager
def _stdout_for_messages() -> Iterator[Send]:
    """Sends messages to stdout; what the library prints there goes to stderr meanwhile."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as messages:
        os.dup2(2, 1)

        def send(message: dict[str, Any]) -> None:
            try:
                messages.write(json.dumps(message) + "\n")
                messages.flush()
            except BrokenPipeError:  # nobody waits; `_watch` sees to the end
                pass

        yield send


if __name__ == "__main__":
    main()
