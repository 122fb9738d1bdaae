"""Stands in for `tensorrt` and `tensorrt_rtx` where a plan runs, which takes a GPU.

A plan of it is JSON that names the graph of `Affine`, the only one that it can run. It behaves as
the documentation says, has no name that the real ones lack, and knows the ways to fail that the
environment variable FAKE_TENSORRT names in JSON:

    refuse: how many plans               no_context, no_start: what fails when it runs
    free: GPU memory in bytes            stale: kernels of another driver
"""

import json
import os
from enum import Enum

import numpy as np

from cuda.bindings import runtime as cudart

__version__ = {"tensorrt": "11.1.0", "tensorrt_rtx": "1.7.1.116"}[__name__]

DataType = Enum("DataType", ["FLOAT", "HALF", "INT64"])
TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
CudaGraphStrategy = Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
TENSORS = {
    "x": (DataType.FLOAT, (2, 64)),
    "bias": (DataType.FLOAT, (1, 32)),
    "row": (DataType.INT64, (2, 1)),
    "y": (DataType.FLOAT, (2, 32)),
}


def _options():
    return json.loads(os.environ.get("FAKE_TENSORRT", "{}"))


class ILogger:
    Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    def __init__(self):
        self._initialised = True


class IRuntimeCache:
    def __init__(self):
        self._content = b""

    def deserialize(self, blob):
        if _options().get("stale"):
            return False
        self._content = blob
        return True

    def serialize(self):
        return self._content


class IRuntimeConfig:
    cuda_graph_strategy = CudaGraphStrategy.DISABLED
    _cache = None

    def create_runtime_cache(self):
        return IRuntimeCache()

    def set_runtime_cache(self, cache):
        self._cache = cache
        return True


class IExecutionContext:
    def __init__(self, weight, config):
        self._weight = weight
        self._config = config
        self._addresses = {}

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return name in TENSORS

    def execute_async_v3(self, stream):
        if "no_start" in _options():
            return False
        assert self._addresses.keys() == TENSORS.keys()
        cudart.calls.append("execute_async_v3")
        if self._config:
            cudart.calls.append(self._config.cuda_graph_strategy.name)
            if b"kernel" not in self._config._cache._content:
                cudart.calls.append("compile")
                self._config._cache._content += b"kernel"
        cudart.submit(stream, self._compute)
        return True

    def _array(self, name):
        dtype = np.float32 if TENSORS[name][0] is DataType.FLOAT else np.int64
        _, memory = cudart.live[self._addresses[name]]
        return np.frombuffer(memory, dtype).reshape(TENSORS[name][1])

    def _compute(self):
        x, bias, row = (self._array(name) for name in ("x", "bias", "row"))
        self._array("y")[...] = np.tanh(x @ self._weight + bias) + row


class ICudaEngine:
    num_io_tensors = len(TENSORS)
    device_memory_size_v2 = 3 << 20
    streamable_weights_size = 0

    def __init__(self, weight):
        self._weight = weight

    def create_execution_context(self, runtime_config=None):
        if "no_context" in _options():
            return None
        return IExecutionContext(self._weight, runtime_config)

    def create_runtime_config(self):
        return IRuntimeConfig()

    def get_tensor_name(self, index):
        return list(TENSORS)[index]

    def get_tensor_dtype(self, name):
        return TENSORS[name][0]

    def get_tensor_shape(self, name):
        return TENSORS[name][1]

    def get_tensor_mode(self, name):
        return TensorIOMode.OUTPUT if name == "y" else TensorIOMode.INPUT


class Runtime:
    def __init__(self, logger):
        assert logger._initialised
        self._logger = logger

    def deserialize_cuda_engine(self, plan):
        if _options().get("refuse", 0) > 0:
            options = _options()
            options["refuse"] -= 1
            os.environ["FAKE_TENSORRT"] = json.dumps(options)
            self._logger.log(ILogger.Severity.ERROR, "made by\nanother version")
            return None
        graph = json.loads(plan)["graph"]
        path = os.path.join(os.path.dirname(graph), "affine.safetensors")
        with open(path, "rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(start - 8))
            begin, end = header["weight"]["data_offsets"]
            file.seek(start + begin)
            weight = np.frombuffer(file.read(end - begin), np.float16)
        return ICudaEngine(weight.reshape(64, 32).astype(np.float32))
