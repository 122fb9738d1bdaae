"""OpenVINO on the CPU, in float32 or bfloat16."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.bundle.external_data import external_files
from keyvid.bundle.specs import TensorSpec
from keyvid.engines.backend import import_openvino
from keyvid.engines.memory import mapped_pages_dropped
from keyvid.engines.spec import EngineSpec
from keyvid.errors import EngineError

_PRECISIONS = {"openvino": "f32", "openvino-bf16": "bf16"}  # engine -> precision hint


def probe(spec: EngineSpec) -> str:
    """Version, device and precision; see `keyvid.engines.engine.Backend`."""
    openvino, core = _import(spec.extra), _core(spec.extra)
    if "CPU" not in core.available_devices:
        raise EngineError("OpenVINO has no CPU plugin; install openvino again")
    precision = _PRECISIONS[spec.name]
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise EngineError("this processor has no bfloat16 instructions; take engine openvino")
    version = openvino.__version__.split("-")[0]
    return f"OpenVINO {version} on CPU, {precision}"


def load(spec: EngineSpec, path: Path, threads: int | None) -> "OpenVinoRunner":
    """The graph at the absolute `path`, compiled for one fast call at a time."""
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _PRECISIONS[spec.name],
        # Pinned, two processes with a thread each would share the first core.
        "ENABLE_CPU_PINNING": False,
    }
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    weights = [path.parent / name for name in external_files(path)]
    with mapped_pages_dropped(weights):  # it packs them for itself
        model = _core(spec.extra).read_model(path)
        compiled = _core(spec.extra).compile_model(model, "CPU", settings)
    return OpenVinoRunner(_import(spec.extra), model, compiled)


class OpenVinoRunner:
    """An inference request whose inputs lie in the caller's memory.

    Names are those of the model as it was read: where compiling drops a Cast, a tensor has the
    names of both its sides.
    """

    def __init__(self, openvino: Any, model: Any, compiled: Any) -> None:
        self._openvino = openvino
        self._request = compiled.create_infer_request()
        inputs, outputs = (
            {read.any_name: port for read, port in zip(ports, made, strict=True)}
            for ports, made in ((model.inputs, compiled.inputs), (model.outputs, compiled.outputs))
        )
        self._ports = inputs | outputs
        self._outputs = list(outputs)

    def tensors(self) -> dict[str, TensorSpec]:
        return {
            name: TensorSpec(port.element_type.to_dtype().name, tuple(port.shape))
            for name, port in self._ports.items()
        }

    def set_input(self, name: str, value: np.ndarray) -> None:
        tensor = self._openvino.Tensor(value, shared_memory=True)
        self._request.set_tensor(self._ports[name], tensor)

    def run(self) -> dict[str, np.ndarray]:
        self._request.infer()
        return {
            name: self._request.get_tensor(self._ports[name]).data.copy() for name in self._outputs
        }

    def close(self) -> None:
        del self._request, self._ports


def _import(extra: str) -> Any:
    return import_openvino(f"'keyvid[{extra}]'")


@cache
def _core(extra: str) -> Any:
    return _import(extra).Core()
