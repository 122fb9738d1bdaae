"""Stands in for `cuda.bindings.runtime`: device memory on the host, work done when it is awaited.

`live` holds what is not freed yet, `calls` the functions in their order, `fail` names functions
that give an error code.
"""

import ctypes
import json
import os
from enum import IntEnum

live = {}
calls = []
fail = {}
_queue = []
_capturing = None
cudaStreamNonBlocking = 1


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class cudaDeviceProp:
    name = b"Fake GPU"
    major, minor = 9, 0
    totalGlobalMem = 16 << 30


def _function(work):
    """`work` as a function of cuda-python: an error code and what it gives."""

    def function(*arguments):
        calls.append(work.__name__)
        code = fail.get(work.__name__, 0)
        if code:
            if work.__name__ == "cudaStreamEndCapture":
                _stop_capturing()
            return cudaError_t(code), None
        try:
            result = work(*arguments)
        except KeyError:
            return cudaError_t.cudaErrorInvalidValue, None
        if result is None:
            return (cudaError_t.cudaSuccess,)
        return cudaError_t.cudaSuccess, *(result if isinstance(result, tuple) else [result])

    return function


@_function
def cudaGetDeviceCount():
    return 1


@_function
def cudaGetDeviceProperties(device):
    assert device == 0
    return cudaDeviceProp


@_function
def cudaDriverGetVersion():
    return 13050


@_function
def cudaRuntimeGetVersion():
    return 13020


@_function
def cudaMemGetInfo():
    free = json.loads(os.environ.get("FAKE_TENSORRT", "{}")).get("free", 10 << 30)
    return free, 16 << 30


def _allocate(kind, size):
    memory = ctypes.create_string_buffer(b"\xff" * size, size)  # NaN, so that nothing is luck
    live[ctypes.addressof(memory)] = (kind, memory)
    return ctypes.addressof(memory)


def _free(kind, address):
    if live[address][0] != kind:
        raise KeyError(address)
    del live[address]


@_function
def cudaMalloc(size):
    return _allocate("device", size)


@_function
def cudaFree(address):
    _free("device", address)


@_function
def cudaMallocHost(size):
    return _allocate("host", size)


@_function
def cudaFreeHost(address):
    _free("host", address)


@_function
def cudaStreamCreateWithFlags(flags):
    assert flags == cudaStreamNonBlocking
    live["stream"] = ("stream", None)
    return 77


@_function
def cudaStreamDestroy(stream):
    del live["stream"]


def submit(stream, work):
    """Do `work` when the stream is awaited; or record it."""
    assert stream == 77
    (_queue if _capturing is None else _capturing).append(work)


@_function
def cudaMemcpyAsync(target, source, size, kind, stream):
    kinds = (
        ("device", "host") if kind == cudaMemcpyKind.cudaMemcpyHostToDevice else ("host", "device")
    )
    assert (live[target][0], live[source][0]) == kinds
    assert size == len(live[target][1]) == len(live[source][1])
    submit(stream, lambda: ctypes.memmove(target, source, size))


@_function
def cudaStreamSynchronize(stream):
    while _queue:
        _queue.pop(0)()


@_function
def cudaStreamBeginCapture(stream, mode):
    global _capturing
    _capturing = []


def _stop_capturing():
    global _capturing
    recorded, _capturing = tuple(_capturing), None
    return recorded


@_function
def cudaStreamEndCapture(stream):
    graph = _stop_capturing()
    live["graph"] = ("graph", graph)
    return (graph,)


@_function
def cudaGraphInstantiate(graph, flags):
    live["recorded"] = ("recorded", graph)
    return "recorded"


@_function
def cudaGraphDestroy(graph):
    del live["graph"]


@_function
def cudaGraphExecDestroy(recorded):
    del live[recorded]


@_function
def cudaGraphLaunch(recorded, stream):
    for work in live[recorded][1]:
        submit(stream, work)
