"""ONNX Runtime, on the CPU in float32 or on an NVIDIA GPU in the precision of the graph."""

import contextlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.bundle.specs import TensorSpec
from keyvid.engines.backend import first_line, import_onnxruntime
from keyvid.engines.spec import EngineSpec
from keyvid.errors import EngineError


@dataclass(frozen=True)
class _Provider:
    """What ONNX Runtime has for a device.

    Attributes:
        name: as ONNX Runtime calls it.
        memory: where it has inputs and outputs.
        options: in all its sessions.
        recorded: options of sessions whose second run is recorded and replayed from then on; none
            where it cannot record.
        detail: device and precision in words.
        missing: what to say where the installed package lacks it.
    """

    name: str
    memory: str
    options: Mapping[str, str]
    recorded: Mapping[str, str]
    detail: str
    missing: str


_INSTALL = "pip uninstall onnxruntime; pip install 'keyvid[cuda]'"
_PROVIDERS = {
    "cpu": _Provider(
        name="CPUExecutionProvider",
        memory="cpu",
        options={},
        recorded={},
        detail="CPU, float32",
        missing="has no provider for the CPU; install it again",
    ),
    "gpu": _Provider(
        name="CUDAExecutionProvider",
        memory="cuda",
        options={
            "use_tf32": "0",  # float32 in the graph is meant
            "arena_extend_strategy": "kSameAsRequested",  # others may use the GPU as well
        },
        recorded={"enable_cuda_graph": "1"},
        detail="CUDA, precision of the graph, no TF32",
        missing=f"is for the CPU; {_INSTALL}",
    ),
}
_STRICT = {"session.disable_cpu_ep_fallback": "1"}
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}
_FATAL = 4  # log severity: failures are raised as well, so nothing need reach stderr
# y = Relu(x) for one float: that a provider is listed does not mean that its libraries load.
_SMALLEST_GRAPH = bytes.fromhex(
    "080a3a330a0c0a0178120179220452656c751201705a0f0a0178120a0a08080112040a020801620f0a017912"
    "0a0a08080112040a02080142040a001015"
)

log = logging.getLogger(__name__)


@cache
def probe(spec: EngineSpec) -> str:
    """Version, device and precision; see `keyvid.engines.engine.Backend`."""
    onnxruntime, provider = _import(spec), _PROVIDERS[spec.device]
    version = onnxruntime.__version__
    if provider.name not in onnxruntime.get_available_providers():
        raise EngineError(f"onnxruntime {version} {provider.missing}")
    OnnxRuntimeRunner(spec, _SMALLEST_GRAPH, None).close()
    return f"ONNX Runtime {version} on {provider.detail}"


def load(spec: EngineSpec, path: Path, threads: int | None) -> "OnnxRuntimeRunner":
    """A session for the graph at `path`."""
    return OnnxRuntimeRunner(spec, path, threads)


class OnnxRuntimeRunner:
    """A session whose inputs and outputs stay on its device.

    On a GPU all nodes run there, with inputs and outputs at the same place in all runs, and are
    recorded as a CUDA graph. Where one of the two cannot be had, a warning says so and the session
    goes on without. On a CPU inputs are read where the caller has them.
    """

    def __init__(self, spec: EngineSpec, model: Path | bytes, threads: int | None) -> None:
        self._onnxruntime, self._provider = _import(spec), _PROVIDERS[spec.device]
        self._on_cpu = spec.device == "cpu"
        self._model, self._threads = model, threads
        self._records = bool(self._provider.recorded)
        try:
            self._session = self._open(strict=not self._on_cpu)
        except EngineError as error:
            if self._on_cpu:
                raise
            self._records = False
            self._session = self._open(strict=False)
            log.warning("%s: parts of it run on the CPU: %s", self._title, error)
        self._inputs: dict[str, Any] = {}
        self._outputs = {
            output.name: self._onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                output.shape, np.float32, self._provider.memory, 0
            )
            for output in self._session.get_outputs()
        }
        self._bind()

    def tensors(self) -> dict[str, TensorSpec]:
        return {
            tensor.name: TensorSpec.found(
                _DTYPES.get(tensor.type, tensor.type), tuple(tensor.shape)
            )
            for tensor in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    def set_input(self, name: str, value: np.ndarray) -> None:
        if name in self._inputs and not self._on_cpu:
            self._inputs[name].update_inplace(value)
            return
        values = self._onnxruntime.OrtValue
        self._inputs[name] = values.ortvalue_from_numpy(value, self._provider.memory, 0)
        self._binding.bind_ortvalue_input(name, self._inputs[name])

    def run(self) -> dict[str, np.ndarray]:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # it raises what it likes
            if not self._records:
                raise
            log.warning("%s: not recorded as a CUDA graph: %s", self._title, first_line(error))
            self._open_without_recording()
            self._session.run_with_iobinding(self._binding)
        return {name: np.array(value.numpy()) for name, value in self._outputs.items()}

    def close(self) -> None:
        self._inputs.clear()
        self._outputs.clear()
        del self._binding, self._session

    @property
    def _title(self) -> str:
        return self._model.name if isinstance(self._model, Path) else "the smallest graph"

    def _open_without_recording(self) -> None:
        del self._binding, self._session  # first: two would take the memory of two
        self._records = False
        self._session = self._open(strict=True)
        self._bind()

    def _bind(self) -> None:
        self._binding = self._session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def _open(self, *, strict: bool) -> Any:
        """A session on the device, which records runs if this runner does.

        Args:
            strict: refuse a graph some of whose nodes would run on the CPU instead.
        Raises:
            EngineError: ONNX Runtime refuses, or would run it on the CPU alone.
        """
        provider = self._provider
        settings = self._onnxruntime.SessionOptions()
        settings.log_severity_level = _FATAL
        settings.intra_op_num_threads = self._threads or 0  # 0: one per physical core
        # On a CPU it reserves what the first run took once more, for no gain in time.
        settings.enable_mem_pattern = not self._on_cpu
        for key, value in (_STRICT if strict else {}).items():
            settings.add_session_config_entry(key, value)
        options = {**provider.options, **(provider.recorded if self._records else {})}
        try:
            session = self._onnxruntime.InferenceSession(
                self._model,
                settings,
                providers=[(provider.name, options)],
                enable_fallback=0,  # it would print on standard output and take the CPU
            )
        except Exception as error:  # it raises what it likes
            raise EngineError(first_line(error)) from error
        if provider.name not in session.get_providers():
            raise EngineError(
                "the CUDA provider of ONNX Runtime does not load, for want of a GPU, its driver or "
                f"the libraries of CUDA 13 and cuDNN 9; {_INSTALL}"
            )
        return session


@cache
def _import(spec: EngineSpec) -> Any:
    """The onnxruntime package; for a GPU with the CUDA libraries that pip installed beside it."""
    onnxruntime = import_onnxruntime(f"'keyvid[{spec.extra}]'")
    if spec.device == "gpu" and _PROVIDERS["gpu"].name in onnxruntime.get_available_providers():
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses
            onnxruntime.preload_dlls()
    return onnxruntime
