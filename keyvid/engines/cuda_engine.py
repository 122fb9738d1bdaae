"""ONNX Runtime on an NVIDIA GPU, in the precision of the graph."""

import contextlib
import io
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from keyvid.bundle.specs import TensorSpec
from keyvid.engines.backend import first_line, import_onnxruntime
from keyvid.errors import EngineError

_PROVIDER = "CUDAExecutionProvider"
_DEVICE = "cuda"
_OPTIONS = {
    "use_tf32": "0",  # float32 in the graph is meant
    "arena_extend_strategy": "kSameAsRequested",  # others may use the GPU as well
}
_CAPTURE = {"enable_cuda_graph": "1"}  # the second run is recorded, those after it replayed
_STRICT = {"session.disable_cpu_ep_fallback": "1"}
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}
_FATAL = 4  # log severity: failures are raised as well, so nothing need reach stderr
_INSTALL = "pip uninstall onnxruntime; pip install 'keyvid[cuda]'"
# y = Relu(x) for one float: that the provider is listed does not mean that its libraries load.
_SMALLEST_GRAPH = bytes.fromhex(
    "080a3a330a0c0a0178120179220452656c751201705a0f0a0178120a0a08080112040a020801620f0a017912"
    "0a0a08080112040a02080142040a001015"
)

log = logging.getLogger(__name__)


@cache
def probe(name: str) -> str:
    """Version; see `keyvid.engines.engine.probe_engine`."""
    onnxruntime = _import()
    if _PROVIDER not in onnxruntime.get_available_providers():
        raise EngineError(f"onnxruntime {onnxruntime.__version__} is for the CPU; {_INSTALL}")
    _open(onnxruntime, _SMALLEST_GRAPH)
    return f"ONNX Runtime {onnxruntime.__version__} on CUDA, precision of the graph, no TF32"


def load(name: str, path: Path, threads: int | None) -> "CudaRunner":
    """A session for the graph at `path`."""
    return CudaRunner(path)


class CudaRunner:
    """A session whose inputs and outputs stay on the device, at the same place in all runs.

    All nodes run there and are recorded as a CUDA graph. Where one of the two cannot be had, a
    warning says so and the session goes on without.
    """

    def __init__(self, path: Path) -> None:
        onnxruntime = _import()
        self._path, self._captures = path, True
        try:
            self._session = _open(onnxruntime, path, _STRICT, _CAPTURE)
        except EngineError as error:
            self._session, self._captures = _open(onnxruntime, path), False
            log.warning("%s: parts of it run on the CPU: %s", path.name, error)
        self._values = onnxruntime.OrtValue
        self._inputs: dict[str, Any] = {}
        self._outputs = {
            output.name: self._values.ortvalue_from_shape_and_type(
                output.shape, np.float32, _DEVICE, 0
            )
            for output in self._session.get_outputs()
        }
        self._bind()

    def tensors(self) -> dict[str, TensorSpec]:
        return {
            tensor.name: TensorSpec(_DTYPES.get(tensor.type, tensor.type), tuple(tensor.shape))
            for tensor in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    def set_input(self, name: str, value: np.ndarray) -> None:
        if name in self._inputs:
            self._inputs[name].update_inplace(value)
            return
        self._inputs[name] = self._values.ortvalue_from_numpy(value, _DEVICE, 0)
        self._binding.bind_ortvalue_input(name, self._inputs[name])

    def run(self) -> dict[str, np.ndarray]:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # it raises what it likes
            if not self._captures:
                raise
            log.warning("%s: not recorded as a CUDA graph: %s", self._path.name, first_line(error))
            self._open_without_capture()
            self._session.run_with_iobinding(self._binding)
        return {name: np.array(value.numpy()) for name, value in self._outputs.items()}

    def close(self) -> None:
        self._inputs.clear()
        self._outputs.clear()
        del self._binding, self._session

    def _open_without_capture(self) -> None:
        del self._binding, self._session  # first: two would take the memory of two
        self._session, self._captures = _open(_import(), self._path, _STRICT), False
        self._bind()

    def _bind(self) -> None:
        self._binding = self._session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)


def _open(
    onnxruntime: Any,
    model: Path | bytes,
    config: Mapping[str, str] = MappingProxyType({}),
    options: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """A session on the GPU with settings of the session, and of the provider.

    Raises:
        EngineError: ONNX Runtime refuses, or would run it on the CPU alone.
    """
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL
    for key, value in config.items():
        settings.add_session_config_entry(key, value)
    provider = (_PROVIDER, {**_OPTIONS, **options})
    try:
        session = onnxruntime.InferenceSession(model, settings, providers=[provider])
    except Exception as error:  # it raises what it likes
        raise EngineError(first_line(error)) from error
    if _PROVIDER not in session.get_providers():
        raise EngineError(
            "the CUDA provider of ONNX Runtime does not load, for want of a GPU, its driver or the "
            f"libraries of CUDA 13 and cuDNN 9; {_INSTALL}"
        )
    session.disable_fallback()
    return session


@cache
def _import() -> Any:
    """The onnxruntime package, with the CUDA libraries that pip installed beside it."""
    onnxruntime = import_onnxruntime("'keyvid[cuda]'")
    if _PROVIDER in onnxruntime.get_available_providers():
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses
            onnxruntime.preload_dlls()
    return onnxruntime
