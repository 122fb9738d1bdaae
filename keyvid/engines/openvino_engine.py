"""OpenVINO on the CPU, in float32 or bfloat16."""

import json
import logging
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keyvid.bundle.external_data import external_files
from keyvid.bundle.specs import TensorSpec
from keyvid.engines import processor
from keyvid.engines.backend import first_line, import_openvino
from keyvid.engines.kept_graph import KeptGraph, is_small
from keyvid.engines.memory import mapped_pages_dropped
from keyvid.engines.spec import EngineSpec
from keyvid.errors import EngineError

_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}  # the last on Arm
_PRECISIONS = {"openvino": "f32", "openvino-bf16": "bf16"}  # engine -> precision hint
# Without kernels made for each run of simple operators and each attention a graph opens in less
# than half the time, and its calls take a tenth longer.
_OPENS_SOON = {"SNIPPETS_MODE": "DISABLE"}
# y = GroupNormalization(x) for 1 x 4 x 4 floats, opset 21. In float32 OpenVINO has no kernel for it
# on processors without AVX2, and says so only when it compiles.
_SMALLEST_GRAPH = bytes.fromhex(
    "080a12003aa0010a330a01780a01730a0162120179221247726f75704e6f726d616c697a6174696f6e2a110a"
    "0a6e756d5f67726f7570731802a001021201672a190804100122100000803f0000803f0000803f0000803f42"
    "01732a19080410012210000000000000000000000000000000004201625a170a017812120a100801120c0a02"
    "08010a0208040a02080462170a017912120a100801120c0a0208010a0208040a02080442040a001015"
)

log = logging.getLogger(__name__)


def probe(spec: EngineSpec) -> str:
    """Version, device and precision; see `keyvid.engines.engine.Backend`."""
    openvino, core = _import(spec.extra), _core(spec.extra)
    try:
        core.get_property("CPU", "FULL_DEVICE_NAME")
    except Exception as error:  # it raises what it likes
        raise EngineError("OpenVINO has no CPU plugin; install openvino again") from error
    precision = _PRECISIONS[spec.name]
    if precision == "bf16" and not _has_bfloat16(core):
        raise EngineError("this processor has no bfloat16 instructions; take engine openvino")
    _settings_of_small(spec.extra)
    version = openvino.__version__.split("-")[0]
    return f"OpenVINO {version} on CPU, {precision}"


def _has_bfloat16(core: Any) -> bool:
    """Whether the processor computes in bfloat16; AVX-512 alone would only convert."""
    known = processor.features()  # Linux says it
    claimed = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return claimed and (not known or not _BFLOAT16.isdisjoint(known))


@cache
def _settings_of_small(extra: str) -> dict[str, Any]:
    """What small graphs are compiled with besides, as far as this version knows it.

    Raises:
        EngineError: OpenVINO cannot compile our graphs for this processor.
    """
    core, reason = _core(extra), ""
    for settings in (_OPENS_SOON, {}):
        try:
            model = core.read_model(_SMALLEST_GRAPH)
            core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **settings})
        except Exception as error:  # it raises what it likes
            reason = first_line(error)
        else:
            return settings
    raise EngineError(
        f"OpenVINO has no kernels for this processor, which may lack AVX2 ({reason}); "
        "take engine onnxruntime"
    )


def load(spec: EngineSpec, path: Path, threads: int | None) -> "OpenVinoRunner":
    """The graph at the absolute `path`, compiled for one fast call at a time."""
    openvino, settings = _import(spec.extra), _settings(spec, threads)
    if is_small(path):
        settings |= _settings_of_small(spec.extra)
    kept = KeptGraph(path, "OpenVINO model", openvino.__version__, settings)
    compiled = _restore(spec, path, settings, kept.content)
    if compiled is None:
        compiled = _compile(spec, path, settings)
        kept.keep(compiled.to_bytes)
    return OpenVinoRunner(openvino, compiled)


def _settings(spec: EngineSpec, threads: int | None) -> dict[str, Any]:
    """How graphs are compiled, and run by that many threads."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": _PRECISIONS[spec.name],
        # Pinned, two processes with a thread each would share the first core.
        "ENABLE_CPU_PINNING": False,
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }


class _Compiled(NamedTuple):
    """A compiled model, and the names of the graph: where compiling drops a Cast, a tensor has the
    names of both its sides.
    """

    model: Any
    inputs: list[str]
    outputs: list[str]

    def to_bytes(self) -> bytes:
        names = json.dumps([self.inputs, self.outputs])
        return names.encode() + b"\n" + bytes(self.model.export_model().getvalue())

    def ports(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Inputs and outputs by name."""
        return (
            dict(zip(self.inputs, self.model.inputs, strict=True)),
            dict(zip(self.outputs, self.model.outputs, strict=True)),
        )


def _compile(spec: EngineSpec, path: Path, settings: dict[str, Any]) -> _Compiled:
    weights = [path.parent / name for name in external_files(path)]
    with mapped_pages_dropped(weights):  # it packs them for itself
        read = _core(spec.extra).read_model(path)
        model = _core(spec.extra).compile_model(read, "CPU", settings)
    inputs, outputs = ([port.any_name for port in ports] for ports in (read.inputs, read.outputs))
    return _Compiled(model, inputs, outputs)


def _restore(
    spec: EngineSpec, path: Path, settings: dict[str, Any], content: bytes | None
) -> _Compiled | None:
    """What was kept of the graph at `path`, None if that is nothing, or OpenVINO refuses it."""
    if content is None:
        return None
    names, _, model = content.partition(b"\n")
    try:
        restored = _core(spec.extra).import_model(model, "CPU", settings)
        return _Compiled(restored, *json.loads(names))
    except Exception as error:  # it raises what it likes
        log.info("%s: is compiled again: %s", path.name, first_line(error))
        return None


class OpenVinoRunner:
    """An inference request whose inputs lie in the caller's memory."""

    def __init__(self, openvino: Any, compiled: _Compiled) -> None:
        self._openvino = openvino
        self._request = compiled.model.create_infer_request()
        inputs, outputs = compiled.ports()
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
