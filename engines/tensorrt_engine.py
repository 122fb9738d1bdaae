"""TensorRT on an NVIDIA GPU, in the precision of the graph."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.bundle.specs import TensorSpec
from keyvid.engines.backend import import_tensorrt
from keyvid.engines.gpu import MEMORY_ADVICE, Buffer, Stream, find_gpu, free_bytes
from keyvid.engines.plan_cache import PlanCache
from keyvid.engines.tensorrt_plan import BuildSettings, describe, load_plan
from keyvid.errors import EngineError

SETTINGS = {
    "tensorrt": BuildSettings(),
    "tensorrt-streaming": BuildSettings(weight_streaming=True),
}

log = logging.getLogger(__name__)


def probe(name: str) -> str:
    """Version and device; see `keyvid.engines.engine.probe_engine`."""
    trt = import_tensorrt()
    gpu = find_gpu()
    streaming = ", weights on the host" if SETTINGS[name].weight_streaming else ""
    return f"TensorRT {trt.__version__} on {gpu.name}, precision of the graph, no TF32{streaming}"


def load(name: str, path: Path, threads: int | None) -> "TensorRtRunner":
    """An engine for the graph at the absolute `path`, which is built if there is none yet.

    A plan that TensorRT refuses is built once more.
    """
    settings, plans = SETTINGS[name], PlanCache()
    try:
        return TensorRtRunner(load_plan(path, settings, plans))
    except PlanRefusedError:
        log.warning("%s: its TensorRT engine does not load; it is built again", path.name)
        plans.discard(describe(path, settings))
        return TensorRtRunner(load_plan(path, settings, plans))


class PlanRefusedError(EngineError):
    """TensorRT does not take a plan."""


class TensorRtRunner:
    """An engine with its buffers, whose addresses stay as long as it lives.

    The first run warms up, the second one is captured as a CUDA graph, which all later ones launch.
    """

    def __init__(self, plan: bytes) -> None:
        trt = import_tensorrt()
        runtime = trt.Runtime(_logger())
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise PlanRefusedError("TensorRT refuses the plan")
        if engine.streamable_weights_size:
            engine.weight_streaming_budget_v2 = engine.get_weight_streaming_automatic_budget()
        context = engine.create_execution_context()
        if context is None:
            raise EngineError(
                f"GPU memory does not suffice: {engine.device_memory_size_v2 >> 20} MiB needed to "
                f"run, {free_bytes() >> 20} MiB free; {MEMORY_ADVICE}"
            )
        self._context = context
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
        if self._num_runs == 1:
            self._capture()
        if self._recorded is None:
            self._execute()
        else:
            self._stream.launch(self._recorded)
        for name in self._outputs:
            self._stream.download(self._buffers[name])
        self._stream.wait()
        self._num_runs += 1
        return {name: self._buffers[name].array.copy() for name in self._outputs}

    def close(self) -> None:
        self._buffers = {}  # their memory goes with the stream
        self._stream.close()
        del self._context, self._engine, self._runtime

    def _bind(self, name: str, spec: TensorSpec) -> Buffer:
        buffer = self._stream.buffer(spec.shape, spec.dtype)
        context = self._context
        if not context.set_tensor_address(name, buffer.device):
            raise EngineError(f"TensorRT refuses memory for {name!r}")
        return buffer

    def _execute(self) -> None:
        context = self._context
        if not context.execute_async_v3(int(self._stream.handle)):
            raise EngineError("TensorRT could not start the network, see its messages")

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
def _logger() -> Any:
    """One for the process, as TensorRT wants it; warnings go to stderr."""
    return import_tensorrt().Logger()
