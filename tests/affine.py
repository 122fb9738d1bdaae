"""A small bundle, written by hand, for the tests of the engines."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.bundle.specs import (
    Conditioning,
    Dimensions,
    FileSpec,
    GraphMemory,
    GraphSpec,
    StageSpec,
    TensorSpec,
)
from keyvid.sampling import Sampling

WEIGHT = np.linspace(-1, 1, 64 * 32).reshape(64, 32).astype(np.float16)


class Affine:
    """A stage "affine" in a bundle: y = tanh(x @ weight + bias) + row.

    The weight is float16 in a safetensors file that the graph refers to by offset.
    """

    inputs = {  # noqa: RUF012
        "x": TensorSpec("float32", (2, 64)),
        "bias": TensorSpec("float32", (1, 32)),
        "row": TensorSpec("int64", (2, 1)),
    }
    outputs = {"y": TensorSpec("float32", (2, 32))}  # noqa: RUF012

    @staticmethod
    def draw(seed: int) -> dict[str, np.ndarray]:
        """Random inputs."""
        rng = np.random.default_rng(seed)
        return {
            "x": rng.standard_normal((2, 64)).astype(np.float32),
            "bias": rng.standard_normal((1, 32)).astype(np.float32),
            "row": rng.integers(0, 10, (2, 1)),
        }

    @staticmethod
    def expected(x: np.ndarray, bias: np.ndarray, row: np.ndarray) -> np.ndarray:
        """y, (2, 32) float64."""
        return np.tanh(x.astype(np.float64) @ WEIGHT.astype(np.float64) + bias) + row


def affine_model(location: str, offset: int, length: int) -> onnx.ModelProto:
    """The graph of `Affine`, its weight at the given place."""
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT16, dims=WEIGHT.shape)
    weight.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset), "length": str(length)}
    for key, value in entries.items():
        weight.external_data.add(key=key, value=value)
    nodes = [
        helper.make_node("Cast", ["weight"], ["weight32"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "weight32"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["tanh"]),
        helper.make_node("Cast", ["row"], ["row32"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["tanh", "row32"], ["y"]),
    ]
    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    inputs, outputs = (
        [helper.make_tensor_value_info(k, types[s.dtype], s.shape) for k, s in specs.items()]
        for specs in (Affine.inputs, Affine.outputs)
    )
    graph = helper.make_graph(nodes, "affine", inputs, outputs, [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def write_affine_bundle(folder: Path) -> Bundle:
    """The bundle of `Affine` in `folder`, which must not exist."""
    folder.mkdir()
    save_file({"other": np.ones(5, np.float16), "weight": WEIGHT}, folder / "affine.safetensors")
    content = (folder / "affine.safetensors").read_bytes()
    header_bytes = int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8 : 8 + header_bytes])["weight"]["data_offsets"]
    model = affine_model("affine.safetensors", 8 + header_bytes + begin, end - begin)
    (folder / "affine.onnx").write_bytes(model.SerializeToString())
    graph = GraphSpec("affine.onnx", Affine.inputs, Affine.outputs, GraphMemory(4, 0, 4, 0))
    bundle = Bundle(
        path=folder,
        name="affine",
        preset="tiny",
        weights="random",
        makers={"keyvid": "0.1.0"},
        dimensions=Dimensions(*range(1, 21)),
        conditioning=Conditioning("paper", 1.0, False, 0.7),
        sampling=Sampling(),
        stages={"affine": StageSpec("fp32", (graph,), 1e-6)},
        files={name: FileSpec.of(folder / name) for name in ("affine.onnx", "affine.safetensors")},
    )
    write_manifest(folder, bundle)
    return bundle


@pytest.fixture(scope="session")
def affine() -> type[Affine]:
    """Inputs and expected output of the stage "affine"."""
    return Affine


@pytest.fixture
def affine_bundle(tmp_path: Path) -> Bundle:
    """A fresh bundle with the one stage "affine"."""
    return write_affine_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def model_at() -> Callable[[str, int, int], onnx.ModelProto]:
    """`model_at(location, offset, length)`: the graph of "affine", its weight at that place."""
    return affine_model
