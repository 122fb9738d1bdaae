import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from keyvid.export.verify import relative_errors


@pytest.fixture
def doubler(tmp_path):
    """A graph that doubles its input."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "double.onnx")
    return tmp_path / "double.onnx"


def test_error_of_each_sample(doubler, capfd):
    samples = [{"x": torch.ones(2, 3)}, {"x": torch.randn(2, 3)}]
    errors = relative_errors(doubler, lambda: lambda x: 2 * x, samples, "y", 1e-4)
    assert errors == [0, 0]
    errors = relative_errors(doubler, lambda: lambda x: 1.6 * x, samples, "y", 1e-4)
    np.testing.assert_allclose(errors, 0.25, rtol=1e-6)
    assert capfd.readouterr() == ("", "")  # the table of the command stays readable


def test_nan_is_no_match(doubler):
    (error,) = relative_errors(
        doubler, lambda: lambda x: 2 * x, [{"x": torch.tensor([[torch.nan] * 3] * 2)}], "y", 1e-4
    )
    assert not error <= 1e-4
