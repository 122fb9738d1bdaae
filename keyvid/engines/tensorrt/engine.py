"""TensorRT, or TensorRT for RTX, on an NVIDIA GPU, in the precision of the graph."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.bundle.specs import TensorSpec
from keyvid.engines.cache import Cache, key_of, plan_folder
from keyvid.engines.gpu import MEMORY_ADVICE, Buffer, Gpu, Stream, find_gpu, free_bytes
from keyvid.engines.spec import EngineSpec
from keyvid.engines.tensorrt.bundled_plans import find_bundled
from keyvid.engines.tensorrt.library import Library, make_logger
from keyvid.engines.tensorrt.plan import (
    SETTINGS,
    BuildSettings,
    Plan,
    build_plan,
    describe_gpu,
    find_plan,
)
from keyvid.errors import EngineError

log = logging.getLogger(__name__)


def probe(spec: EngineSpec) -> str:
    """Version and device; see `keyvid.engines.engine.Backend`."""
    settings = SETTINGS[spec.name]
    library = settings.library
    library.check_installed()  # its import takes 100 MB, which a machine without a GPU can spare
    gpu = find_gpu()
    library.check_card(gpu)
    version = library.load().__version__
    streaming = ", weights on the host" if settings.weight_streaming else ""
    return f"{library.title} {version} on {gpu.name}, precision of the graph, no TF32{streaming}"


def load(spec: EngineSpec, path: Path, threads: int | None) -> "TensorRtRunner":
    """An engine for the graph at the absolute `path`.

    Its plan is that of the cache, else that of its bundle; without any it is built. A plan of the
    cache that is refused is built once more.
    """
    settings, plans, gpu = SETTINGS[spec.name], Cache(plan_folder()), find_gpu()
    known = find_plan(path, settings, plans, gpu)
    if known is not None:
        try:
            return TensorRtRunner(settings, known, plans, gpu)
        except PlanRefusedError as error:
            log.warning("%s: %s; it is built again", path.name, error)
            plans.discard(known.ingredients)
    elif (bundled := find_bundled(path, settings, plans, gpu)) is not None:
        return TensorRtRunner(settings, bundled, plans, gpu)
    targets = (settings.library.target(gpu),) if settings.library.builds_ahead else ()
    built = build_plan(path, settings, plans, targets, progress=lambda line: log.info("%s", line))
    return TensorRtRunner(settings, built, plans, gpu)


class PlanRefusedError(EngineError):
    """The library does not take a plan."""


class TensorRtRunner:
    """An engine with its buffers, whose addresses stay as long as it lives.

    The first run warms up. A library that builds ahead then keeps the kernels that it compiled, and
    captures CUDA graphs by itself. Of the other one the second run is captured, and all later ones
    launch what was.
    """

    def __init__(self, settings: BuildSettings, plan: Plan, plans: Cache, gpu: Gpu) -> None:
        library = settings.library
        trt, logger = library.load(), _logger(library)
        logger.errors.clear()
        runtime = trt.Runtime(logger)
        engine = runtime.deserialize_cuda_engine(plan.content)
        if engine is None:
            why = "; ".join(logger.errors[:1]) or "it does not say why"
            raise PlanRefusedError(f"{library.title} refuses the plan on {gpu.name}: {why}")
        if engine.streamable_weights_size:
            engine.weight_streaming_budget_v2 = engine.get_weight_streaming_automatic_budget()
        self._kernels = _Kernels(trt, engine, plan, plans, gpu) if library.builds_ahead else None
        context = (
            self._kernels.make_context() if self._kernels else engine.create_execution_context()
        )
        if context is None:
            raise EngineError(
                f"GPU memory does not suffice: {engine.device_memory_size_v2 >> 20} MiB needed to "
                f"run, {free_bytes() >> 20} MiB free; {MEMORY_ADVICE}"
            )
        self._title, self._context = library.title, context
        self._runtime, self._engine = runtime, engine  # the context needs them
        self._specs, self._outputs = _read_tensors(trt, engine)
        self._stream = Stream()
        try:
            self._buffers = {name: self._bind(name, spec) for name, spec in self._specs.items()}
        except BaseException:
            self.close()
            raise
        self._changed: dict[str, None] = {}  # inputs to copy before the next run
        self._num_runs = 0
        self._recorded: Any = None

    def tensors(self) -> dict[str, TensorSpec]:
        return self._specs

    def set_input(self, name: str, value: np.ndarray) -> None:
        self._buffers[name].array[...] = value
        self._changed[name] = None

    def run(self) -> dict[str, np.ndarray]:
        for name in self._changed:
            self._stream.upload(self._buffers[name])
        self._changed.clear()
        if self._num_runs == 1 and self._kernels is None:
            self._capture()
        if self._recorded is None:
            self._execute()
        else:
            self._stream.launch(self._recorded)
        for name in self._outputs:
            self._stream.download(self._buffers[name])
        self._stream.wait()
        if self._num_runs == 0 and self._kernels is not None:
            self._kernels.keep()
        self._num_runs += 1
        return {name: self._buffers[name].array.copy() for name in self._outputs}

    def close(self) -> None:
        self._buffers = {}  # their memory goes with the stream
        self._stream.close()
        del self._context, self._kernels, self._engine, self._runtime

    def _bind(self, name: str, spec: TensorSpec) -> Buffer:
        buffer = self._stream.buffer(spec.shape, spec.dtype)
        context = self._context
        if not context.set_tensor_address(name, buffer.device):
            raise EngineError(f"{self._title} refuses memory for {name!r}")
        return buffer

    def _execute(self) -> None:
        context = self._context
        if not context.execute_async_v3(int(self._stream.handle)):
            raise EngineError(f"{self._title} could not start the network, see its messages")

    def _capture(self) -> None:
        """Record a run; a network that cannot be recorded goes on being started anew."""
        try:
            self._stream.begin_capture()
            try:
                self._execute()
            finally:
                recorded = self._stream.end_capture()
        except EngineError as error:
            log.info("no CUDA graph: %s", error)
        else:
            self._recorded = recorded


class _Kernels:
    """The kernels that TensorRT for RTX compiles for a GPU, kept beside the plan."""

    def __init__(self, trt: Any, engine: Any, plan: Plan, plans: Cache, gpu: Gpu) -> None:
        self._engine, self._plans = engine, plans
        self._key = {
            "kind": "compiled kernels",
            "file": plan.ingredients["file"],
            "plan": key_of(plan.ingredients),
            **describe_gpu(gpu),
        }
        runtime_config = engine.create_runtime_config()
        runtime_config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        runtime_cache = runtime_config.create_runtime_cache()
        self._known = plans.get(self._key)
        if self._known and not runtime_cache.deserialize(self._known):
            log.info("%s: kernels are compiled anew", plan.ingredients["file"])
        runtime_config.set_runtime_cache(runtime_cache)
        self._config, self._cache = runtime_config, runtime_cache

    def make_context(self) -> Any:
        """An execution context that uses and collects them, None where memory does not suffice."""
        engine = self._engine
        return engine.create_execution_context(runtime_config=self._config)

    def keep(self) -> None:
        """Write what was compiled to the cache; not while a plan is being built there."""
        runtime_cache = self._cache
        compiled = bytes(runtime_cache.serialize() or b"")
        if compiled in (b"", self._known):
            return
        try:
            self._plans.put(self._key, compiled, wait=0)
        except EngineError as error:
            log.info("compiled kernels are not kept: %s", error)


def _read_tensors(trt: Any, engine: Any) -> tuple[dict[str, TensorSpec], list[str]]:
    """What the engine takes and gives, by name, and the names of what it gives.

    Raises:
        EngineError: a tensor has another type than bundles have, or no fixed shape.
    """
    dtypes = {trt.DataType.FLOAT: "float32", trt.DataType.INT64: "int64"}
    specs, outputs = {}, []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        dtype, shape = engine.get_tensor_dtype(name), tuple(engine.get_tensor_shape(name))
        if dtype not in dtypes or any(size < 0 for size in shape):
            raise EngineError(f"tensor {name!r} is {dtype} {shape}, want float32 or int64, static")
        specs[name] = TensorSpec.found(dtypes[dtype], shape)
        if engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT:
            outputs.append(name)
    return specs, outputs


@cache
def _logger(library: Library) -> Any:
    """One for the process, as the library wants it."""
    return make_logger(library.load())
