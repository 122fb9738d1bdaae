"""The NVIDIA GPU through cuda-python: what it is, its memory, and calls that are all checked."""

import ctypes
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keyvid.engines.backend import import_cudart
from keyvid.errors import EngineError

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
MEMORY_ADVICE = "lower --cfg-batch, or close other programs that use the GPU"
_MEANINGS = {
    "cudaErrorMemoryAllocation": ("GPU memory does not suffice", MEMORY_ADVICE),
    "cudaErrorNoDevice": ("no NVIDIA GPU is seen", "take another engine"),
    "cudaErrorInsufficientDriver": (
        "there is no NVIDIA driver, or one too old for this CUDA",
        "install the current one",
    ),
}
_ANY = ("CUDA failed", "keyvid-doctor shows driver and GPU")


@dataclass(frozen=True)
class Gpu:
    """The GPU that a process uses: the first one that it sees.

    Attributes:
        compute_capability: such as "9.0".
        driver: the CUDA version that it is for and, where it is known, its own.
        cuda: version of the CUDA runtime.
        memory_bytes: of the device, in use or not.
    """

    name: str
    compute_capability: str
    driver: str
    cuda: str
    memory_bytes: int


def find_gpu() -> Gpu:
    """The GPU that is used.

    Raises:
        EngineError: there is none, or no driver for it.
    """
    cudart = import_cudart()
    call(cudart.cudaGetDeviceCount())
    found = call(cudart.cudaGetDeviceProperties(0))
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Gpu(
        name=name.rstrip("\0"),
        compute_capability=f"{found.major}.{found.minor}",
        driver=" ".join([_version(call(cudart.cudaDriverGetVersion())), *_driver_release()]),
        cuda=_version(call(cudart.cudaRuntimeGetVersion())),
        memory_bytes=int(found.totalGlobalMem),
    )


def free_bytes() -> int:
    """Memory of the GPU that no process has."""
    free, _ = call(import_cudart().cudaMemGetInfo())
    return int(free)


def call(result: tuple[Any, ...]) -> Any:
    """What a call of cuda-python gives beside its error code.

    Raises:
        EngineError: the code is one; says which, and what to do where that is known.
    """
    code, *values = result
    if int(code) != 0:
        meaning, advice = _MEANINGS.get(code.name, _ANY)
        raise EngineError(f"{meaning} ({code.name}); {advice}")
    return values[0] if len(values) == 1 else tuple(values)


class Stream:
    """A CUDA stream of its own, and the buffers that are used on it; `close` frees them all."""

    def __init__(self) -> None:
        self._cudart = import_cudart()
        self._resources = ExitStack()
        self.handle = call(
            self._cudart.cudaStreamCreateWithFlags(self._cudart.cudaStreamNonBlocking)
        )
        self._free_later(self._cudart.cudaStreamDestroy, self.handle)

    def buffer(self, shape: tuple[int, ...], dtype: str) -> "Buffer":
        """Memory for an array on the device, and pinned memory for it on the host."""
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        device = int(call(self._cudart.cudaMalloc(num_bytes)))
        self._free_later(self._cudart.cudaFree, device)
        host = int(call(self._cudart.cudaMallocHost(num_bytes)))
        self._free_later(self._cudart.cudaFreeHost, host)
        memory = (ctypes.c_uint8 * num_bytes).from_address(host)
        return Buffer(device, host, np.frombuffer(memoryview(memory), dtype).reshape(shape))

    def upload(self, buffer: "Buffer") -> None:
        """Begin to copy a buffer's host side to the device."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(buffer.device, buffer.host, buffer.array.nbytes, kind)

    def download(self, buffer: "Buffer") -> None:
        """Begin to copy a buffer's device side to the host."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(buffer.host, buffer.device, buffer.array.nbytes, kind)

    def wait(self) -> None:
        """Return when all that was begun is done."""
        call(self._cudart.cudaStreamSynchronize(self.handle))

    def begin_capture(self) -> None:
        """Record what is begun from now on instead of doing it."""
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(self._cudart.cudaStreamBeginCapture(self.handle, mode))

    def end_capture(self) -> Any:
        """What was recorded, for `launch`."""
        graph = call(self._cudart.cudaStreamEndCapture(self.handle))
        try:
            recorded = call(self._cudart.cudaGraphInstantiate(graph, 0))
        finally:
            call(self._cudart.cudaGraphDestroy(graph))
        self._free_later(self._cudart.cudaGraphExecDestroy, recorded)
        return recorded

    def launch(self, recorded: Any) -> None:
        """Begin what was recorded."""
        call(self._cudart.cudaGraphLaunch(recorded, self.handle))

    def close(self) -> None:
        """Free everything, the newest first."""
        self._resources.close()

    def _copy(self, target: int, source: int, num_bytes: int, kind: Any) -> None:
        call(self._cudart.cudaMemcpyAsync(target, source, num_bytes, kind, self.handle))

    def _free_later(self, free: Any, resource: Any) -> None:
        self._resources.callback(lambda: call(free(resource)))


@dataclass(frozen=True)
class Buffer:
    """The same array twice: address on the device, address on the host, and the host's array."""

    device: int
    host: int
    array: np.ndarray


def _version(number: int) -> str:
    """13050 -> "13.5"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver_release() -> list[str]:
    """Such as ["580.65.06"]; Linux says it."""
    try:
        text = _DRIVER_FILE.read_text()
    except OSError:
        return []
    return re.findall(r"^NVRM version:.*?\s(\d+\.\d[\d.]*)\s", text)
