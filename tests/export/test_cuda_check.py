"""Nodes that ONNX Runtime's CUDA provider has no kernel for are named."""

import onnx
import pytest
from onnx import TensorProto, helper

from keyvid.bundle.manifest import Bundle
from keyvid.export import build, cuda_check
from keyvid.export.build import ExportError, build_bundle
from keyvid.export.cuda_check import find_cpu_nodes
from keyvid.export.stages import STAGES

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


@pytest.fixture
def save(tmp_path):
    """`save(nodes, kind, opset)`: a graph from "x" to "y", of that type."""

    def write(nodes, kind=FLOAT, opset=21):
        values = [helper.make_tensor_value_info(name, kind, [2, 3]) for name in ("x", "y")]
        graph = helper.make_graph(nodes, "graph", values[:1], values[1:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "graph.onnx")
        return tmp_path / "graph.onnx"

    return write


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("bundle", ["exported", "exported_half"])
def test_each_stage_of_the_form_for_cuda(request, bundle, stage):
    made = request.getfixturevalue(bundle)
    folder = made if bundle == "exported_half" else made[0]
    for graph in Bundle.load(folder).graphs(stage, "cuda"):
        assert graph.form == "cuda"
        assert find_cpu_nodes(folder / graph.file) == []


def test_a_kernel_is_for_the_versions_that_it_states(save):
    cos = helper.make_node("Cos", ["x"], ["y"], name="wave")
    assert find_cpu_nodes(save([cos], opset=21)) == []
    assert find_cpu_nodes(save([cos], opset=22)) == [
        "node 'wave' (Cos): no CUDA kernel for version 22"
    ]


def test_types(save):
    assert find_cpu_nodes(save([helper.make_node("Tanh", ["x"], ["y"])], DOUBLE)) == [
        "node 'y' (Tanh): no CUDA kernel from unknown to unknown"
    ]


def test_the_types_of_a_choice_are_not_those_of_its_condition(save):
    nodes = [
        helper.make_node("Tanh", ["x"], ["wave"]),
        helper.make_node("Cast", ["x"], ["is_set"], to=TensorProto.BOOL),
        helper.make_node("Where", ["is_set", "wave", "x"], ["y"]),
    ]
    assert find_cpu_nodes(save(nodes)) == []
    nodes[2] = helper.make_node("Where", ["is_set", "is_set", "is_set"], ["either"])
    nodes.append(helper.make_node("Cast", ["either"], ["y"], to=FLOAT))
    assert find_cpu_nodes(save(nodes)) == [
        "node 'either' (Where): no CUDA kernel from bool to bool"
    ]


def test_operators_without_a_kernel(save):
    assert find_cpu_nodes(save([helper.make_node("Hardmax", ["x"], ["y"])])) == [
        "node 'y' (Hardmax): no CUDA kernel for version 13"
    ]


def test_the_export_refuses_what_would_run_on_the_cpu(source, tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_check, "_kernels", lambda: {"kernels": {}})
    with pytest.raises(ExportError, match=r"localizer\.cuda\.onnx: \d+ nodes would not run on"):
        build_bundle(source, tmp_path / "out", ["localizer"], families=["cuda"], verify=False)
    assert not (tmp_path / "out").exists()
    assert build._graph_file("localizer", STAGES["localizer"].variants[0], "plain") == (
        "localizer.onnx"
    )
