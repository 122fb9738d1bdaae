"""How far an ONNX graph is from the reference, by polygraphy and ONNX Runtime."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from polygraphy.backend.base import BaseRunner
from polygraphy.backend.onnxrt import OnnxrtRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, IterationResult
from polygraphy.logger import G_LOGGER
from torch import Tensor

from keyvid.bundle.specs import Check
from keyvid.engines.backend import import_onnxruntime
from keyvid.engines.verification import known_input, make_check
from keyvid.export.stages import Input


def known_sample(inputs: dict[str, Input]) -> dict[str, Tensor]:
    """Inputs that an engine can be verified with where there is no torch."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.from_numpy(known_input(name, spec.shape))
        if spec.high is None
        else spec.random(generator)
        for name, spec in inputs.items()
    }


@torch.no_grad()
def reference_check(
    reference: Callable[..., Tensor], output: str, sample: dict[str, Tensor]
) -> Check:
    """The outcome of a `known_sample` in the reference, which takes its values in their order."""
    outcome = reference(*sample.values())
    return make_check({k: x.numpy() for k, x in sample.items()}, {output: outcome.numpy()})


def relative_errors(
    path: Path,
    open_reference: Callable[[], Callable[..., Tensor]],
    samples: Sequence[dict[str, Tensor]],
    output: str,
    tolerance: float,
) -> list[float]:
    """Relative error of the graph at `path` for each sample, NaN where it gives one.

    Graph and reference are in memory one after the other.

    Args:
        open_reference: gives what takes a sample's values in their order.
        samples: inputs by name.
        output: name of the graph's one output.
        tolerance: what polygraphy calls a match.
    """
    errors: list[float] = []

    def compare(graph: IterationResult, torch_: IterationResult) -> "OrderedDict[str, bool]":
        got, want = (np.asarray(result[output], np.float64) for result in (graph, torch_))
        errors.append(float(np.linalg.norm(got - want) / np.linalg.norm(want)))
        return OrderedDict({output: errors[-1] <= tolerance})

    feeds = [{name: x.numpy() for name, x in sample.items()} for sample in samples]
    runners = [
        OnnxrtRunner(lambda: _open_session(path), name="graph"),
        _ReferenceRunner(open_reference, feeds[0], output),
    ]
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        results = Comparator.run(runners, data_loader=feeds)
        Comparator.compare_accuracy(results, compare_func=compare)
    return errors


def read_nodes(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Operator and weights of each node of a graph, in order; no shapes and no constants."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer if tensor.external_data}
    return [
        (node.op_type, tuple(name for name in node.input if name in weights))
        for node in graph.node
        if node.op_type != "Constant"
    ]


def _open_session(path: Path) -> Any:
    onnxruntime = import_onnxruntime("'keyvid[export]'")
    options = onnxruntime.SessionOptions()
    # Prepacking, folding and the arena would hold the weights once or twice more, or for longer.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # it warns of each half-precision node that it cannot fold
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class _ReferenceRunner(BaseRunner):  # type: ignore[misc]
    """Lets polygraphy call the reference."""

    def __init__(
        self,
        open_reference: Callable[[], Callable[..., Tensor]],
        feed: dict[str, np.ndarray],
        output: str,
    ) -> None:
        super().__init__(name="reference")
        self._open = open_reference
        self._feed = feed
        self._output = output

    def activate_impl(self) -> None:
        self._reference = self._open()

    def deactivate_impl(self) -> None:
        del self._reference

    def get_input_metadata_impl(self) -> TensorMetadata:
        return TensorMetadata().from_feed_dict(self._feed)

    def infer_impl(self, feed_dict: dict[str, np.ndarray]) -> "OrderedDict[str, np.ndarray]":
        inputs = [torch.from_numpy(feed_dict[name]) for name in self._feed]
        with torch.no_grad():
            result = self._reference(*inputs)
        self.inference_time = 0.0
        return OrderedDict({self._output: result.numpy()})
