"""ONNX Runtime on the CPU, float32."""

from pathlib import Path

import numpy as np

from keyvid.bundle.specs import TensorSpec
from keyvid.engines.backend import import_onnxruntime
from keyvid.errors import EngineError

_PROVIDER = "CPUExecutionProvider"
_DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64"}
_FATAL = 4  # log severity: failures are raised as well, so nothing need reach stderr


def probe(name: str) -> str:
    """Version; see `keyvid.engines.engine.probe_engine`."""
    onnxruntime = import_onnxruntime()
    if _PROVIDER not in onnxruntime.get_available_providers():
        raise EngineError(f"onnxruntime {onnxruntime.__version__} has no {_PROVIDER}")
    return f"ONNX Runtime {onnxruntime.__version__} on CPU, float32"


def load(name: str, path: Path, threads: int | None) -> "OnnxRuntimeRunner":
    """A session for the graph at `path`."""
    return OnnxRuntimeRunner(path, threads)


class OnnxRuntimeRunner:
    """A session and the inputs of its next run.

    `run` reads NumPy inputs in place, so that inputs that stay the same cost nothing per run.
    """

    def __init__(self, path: Path, threads: int | None) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: one per physical core
        options.log_severity_level = _FATAL
        # It reserves what the first run took once more, for no gain in time.
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(
            path,
            options,
            providers=[_PROVIDER],
            enable_fallback=0,  # it would print on standard output and try the same again
        )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._inputs: dict[str, np.ndarray] = {}

    def tensors(self) -> dict[str, TensorSpec]:
        return {
            tensor.name: TensorSpec(_DTYPES.get(tensor.type, tensor.type), tuple(tensor.shape))
            for tensor in (*self._session.get_inputs(), *self._session.get_outputs())
        }

    def set_input(self, name: str, value: np.ndarray) -> None:
        self._inputs[name] = value

    def run(self) -> dict[str, np.ndarray]:
        return dict(zip(self._outputs, self._session.run(self._outputs, self._inputs), strict=True))

    def close(self) -> None:
        self._inputs.clear()
        del self._session
