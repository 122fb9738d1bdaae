"""Stands in for `tensorrt`: builds and runs the graph of `Affine` and nothing else.

It behaves as TensorRT's documentation says, has no name that the real one lacks, and knows the
ways to fail that the environment variable FAKE_TENSORRT names in JSON:

    errors: what the parser finds        most: workspace that it can build with, in bytes
    signal: of which the builder dies    hold: seconds that a build takes
    refuse: how many plans               no_context, no_start: what fails when it runs
    free: GPU memory in bytes            log: file that calls of the builder are written to
"""

import json
import os
import sys
import time
import weakref
from enum import Enum

import numpy as np

from cuda.bindings import runtime as cudart

__version__ = os.environ.get("FAKE_TENSORRT_VERSION", "11.1.0")

DataType = Enum("DataType", ["FLOAT", "HALF", "INT64"])
TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
MemoryPoolType = Enum("MemoryPoolType", ["WORKSPACE"])
BuilderFlag = Enum("BuilderFlag", ["TF32", "WEIGHT_STREAMING"])
TENSORS = {
    "x": (DataType.FLOAT, (2, 64)),
    "bias": (DataType.FLOAT, (1, 32)),
    "row": (DataType.INT64, (2, 1)),
    "y": (DataType.FLOAT, (2, 32)),
}


def _options():
    return json.loads(os.environ.get("FAKE_TENSORRT", "{}"))


def _log(event, *details):
    if path := _options().get("log"):
        with open(path, "a") as file:
            file.write(json.dumps([event, *details]) + "\n")


class Logger:
    pass


class ITensor:
    def __init__(self, name):
        self.name = name
        self.shape = TENSORS[name][1]


class INetworkDefinition:
    num_inputs = 3

    def get_input(self, index):
        return ITensor(list(TENSORS)[index])


class ParserError:
    def __init__(self, text):
        self._text = text

    def node(self):
        return 3

    def node_name(self):
        return "norm"

    def node_operator(self):
        return "Det"

    def desc(self):
        return self._text


class OnnxParser:
    def __init__(self, network, logger):
        self._network = network
        self._errors = _options().get("errors", [])

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return ParserError(self._errors[index])

    def parse_from_file(self, path):
        assert os.path.isabs(path)
        assert os.path.exists(path)
        self._network._graph = path
        self._network._parser = weakref.ref(self)  # it owns the weights
        print("[TRT] something on stdout", flush=True)
        return not self._errors


class IHostMemory(bytes):
    pass


class ITimingCache:
    def __init__(self, content):
        self._content = content

    def serialize(self):
        return IHostMemory(self._content + b"timed ")


class IBuilderConfig:
    builder_optimization_level = None
    progress_monitor = None

    def __init__(self):
        self._timings = None

    def set_memory_pool_limit(self, pool, limit):
        assert pool is MemoryPoolType.WORKSPACE
        self._limit = limit

    def set_flag(self, flag):
        _log("set_flag", flag.name)

    def clear_flag(self, flag):
        _log("clear_flag", flag.name)

    def create_timing_cache(self, content):
        _log("timing_cache", content.decode())
        return ITimingCache(content)

    def set_timing_cache(self, timing_cache, ignore_mismatch):
        assert ignore_mismatch is False
        self._timings = timing_cache

    def get_timing_cache(self):
        return self._timings


class IProgressMonitor:
    def __init__(self):
        self._initialised = True


class Builder:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def create_network(self, flags):
        assert flags == 0
        return INetworkDefinition()

    def create_builder_config(self):
        return IBuilderConfig()

    def build_serialized_network(self, network, config):
        assert network._parser() is not None
        assert config.progress_monitor._initialised
        assert "torch" not in sys.modules
        _log("build", config._limit, config.builder_optimization_level)
        options = _options()
        monitor = config.progress_monitor
        monitor.phase_start("Building", None, 3)
        for step in range(3):
            time.sleep(options.get("hold", 0) / 3)
            if not monitor.step_complete("Building", step):
                _log("cancelled")
                return None
        monitor.phase_finish("Building")
        if "signal" in options:
            os.kill(os.getpid(), options["signal"])
        if config._limit > options.get("most", 1 << 40):
            return None
        return IHostMemory(json.dumps({"graph": network._graph}).encode())


class IExecutionContext:
    def __init__(self, weight):
        self._weight = weight
        self._addresses = {}

    def set_tensor_address(self, name, address):
        self._addresses[name] = address
        return name in TENSORS

    def execute_async_v3(self, stream):
        if "no_start" in _options():
            return False
        assert self._addresses.keys() == TENSORS.keys()
        cudart.calls.append("execute_async_v3")
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

    def create_execution_context(self):
        return None if "no_context" in _options() else IExecutionContext(self._weight)

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
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, plan):
        if _options().get("refuse", 0) > 0:
            options = _options()
            options["refuse"] -= 1
            os.environ["FAKE_TENSORRT"] = json.dumps(options)
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
