"""A graph may read its weights from listed files only, wherever in the graph it asks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from keyvid.bundle.external_data import check_external_data
from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
from keyvid.errors import BundleError

WEIGHTS = "affine.safetensors"
ModelAt = Callable[[str, int, int], onnx.ModelProto]


def check(bundle: Bundle, model: onnx.ModelProto | bytes) -> None:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (bundle.path / "affine.onnx").write_bytes(content)
    check_external_data(bundle, "affine.onnx")


def external(location: str = "/etc/passwd", **entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "4", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_the_written_bundle_passes(affine_bundle: Bundle) -> None:
    check_external_data(affine_bundle, "affine.onnx")


def test_the_last_byte_may_be_read_and_none_after(affine_bundle: Bundle, model_at: ModelAt) -> None:
    size = affine_bundle.files[WEIGHTS].bytes
    check(affine_bundle, model_at(WEIGHTS, size - 1, 1))
    with pytest.raises(BundleError, match=rf"up to byte {size + 1} of {WEIGHTS}, which is shorter"):
        check(affine_bundle, model_at(WEIGHTS, size - 1, 2))


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../affine.safetensors", "./affine.safetensors", "unlisted.bin", "", "."],
)
def test_other_files(affine_bundle: Bundle, model_at: ModelAt, location: str) -> None:
    (affine_bundle.path / "unlisted.bin").write_bytes(bytes(100))
    with pytest.raises(BundleError, match=r"external data in .*, a file that the manifest lacks"):
        check(affine_bundle, model_at(location, 0, 1))


@pytest.mark.parametrize(("offset", "length"), [("-1", "4"), ("0", "-4"), ("0x1", "4"), ("٣", "4")])
def test_strange_numbers(affine_bundle: Bundle, offset: str, length: str) -> None:
    graph = helper.make_graph([], "g", [], [], [external(WEIGHTS, offset=offset, length=length)])
    with pytest.raises(BundleError, match="external data at offset"):
        check(affine_bundle, helper.make_model(graph))


def test_a_length_is_needed(affine_bundle: Bundle) -> None:
    tensor = external(WEIGHTS)
    del tensor.external_data[2]
    graph = helper.make_graph([], "g", [], [], [tensor])
    with pytest.raises(BundleError, match="external data at offset '0' with length ''"):
        check(affine_bundle, helper.make_model(graph))


def test_keys_that_change_the_meaning(affine_bundle: Bundle) -> None:
    graph = helper.make_graph([], "g", [], [], [external(WEIGHTS, basepath="/")])
    with pytest.raises(BundleError, match="external data with unknown key 'basepath'"):
        check(affine_bundle, helper.make_model(graph))
    tensor = external(WEIGHTS)
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(BundleError, match="external data with key 'location' twice"):
        check(affine_bundle, helper.make_model(helper.make_graph([], "g", [], [], [tensor])))


def _graph_of(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), "g", [], [])


def _constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def _model(**parts: Any) -> onnx.ModelProto:
    whole = {"graph": _graph_of(), "ir_version": 10, "opset_import": [helper.make_opsetid("", 21)]}
    return onnx.ModelProto(**(whole | parts))


def _sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, dims=[1])


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer": lambda t: helper.make_model(helper.make_graph([], "g", [], [], [t])),
    "sparse initializer": lambda t: _model(graph=onnx.GraphProto(sparse_initializer=[_sparse(t)])),
    "sparse indices": lambda t: _model(
        graph=onnx.GraphProto(sparse_initializer=[onnx.SparseTensorProto(indices=t)])
    ),
    "attribute": lambda t: helper.make_model(_graph_of(_constant(t))),
    "attribute list": lambda t: helper.make_model(_graph_of(helper.make_node("X", [], [], v=[t]))),
    "sparse attribute": lambda t: helper.make_model(
        _graph_of(helper.make_node("X", [], [], v=_sparse(t)))
    ),
    "sparse attribute list": lambda t: helper.make_model(
        _graph_of(helper.make_node("X", [], [], v=[_sparse(t)]))
    ),
    "subgraph": lambda t: helper.make_model(
        _graph_of(helper.make_node("If", ["c"], ["y"], then_branch=_graph_of(_constant(t))))
    ),
    "subgraph list": lambda t: helper.make_model(
        _graph_of(helper.make_node("X", [], [], v=[_graph_of(_constant(t))]))
    ),
    "function": lambda t: _model(functions=[onnx.FunctionProto(node=[_constant(t)])]),
    "function attribute": lambda t: _model(
        functions=[onnx.FunctionProto(attribute_proto=[onnx.AttributeProto(t=t)])]
    ),
    "training": lambda t: _model(
        training_info=[onnx.TrainingInfoProto(algorithm=_graph_of(_constant(t)))]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_searched(affine_bundle: Bundle, place: str) -> None:
    check(affine_bundle, PLACES[place](external(WEIGHTS)))
    with pytest.raises(BundleError, match="external data in '/etc/passwd'"):
        check(affine_bundle, PLACES[place](external()))


def test_every_message_of_onnx_that_holds_tensors_is_known() -> None:
    """The table of fields is complete for the installed `onnx`, found by walking its schema."""
    from onnx import onnx_ml_pb2

    from keyvid.bundle import external_data

    messages = onnx_ml_pb2.DESCRIPTOR.message_types_by_name
    names = {"Training": "TrainingInfo"}
    known = {
        (names.get(message, message) + "Proto", field)
        for message, fields in external_data._FIELDS.items()
        for field in fields
    }
    leading = {"TensorProto"}  # messages that hold a tensor at any depth
    while True:
        found = {
            (name, field.number, field.message_type.name)
            for name, message in messages.items()
            for field in message.fields
            if field.message_type and field.message_type.name in leading
        }
        if {name for name, _, _ in found} <= leading:
            break
        leading |= {name for name, _, _ in found}
    assert known == {(name, number) for name, number, _ in found}


def test_a_second_occurrence_is_refused(affine_bundle: Bundle) -> None:
    """Protobuf merges the two, and with them entries that would be checked apart."""

    def field(number: int, content: bytes) -> bytes:
        length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7])
        return bytes([number << 3 | 2]) + length + content

    attribute = onnx.AttributeProto(t=external(WEIGHTS)).SerializeToString()
    model = field(7, field(1, field(5, attribute * 2)))
    merged = onnx.ModelProto.FromString(model).graph.node[0].attribute[0].t
    assert len(merged.external_data) == 6
    with pytest.raises(BundleError, match="field 5 of Attribute twice"):
        check(affine_bundle, model)


def test_cut_off_graphs(affine_bundle: Bundle, model_at: ModelAt) -> None:
    """Each prefix that asks for external data is refused."""
    content = model_at(WEIGHTS, 0, 1).SerializeToString()
    for length in range(content.index(b"location") + len(b"location"), len(content)):
        with pytest.raises(BundleError, match=r"affine\.onnx: "):
            check(affine_bundle, content[:length])


def test_the_check_stands_before_every_backend(
    affine_bundle: Bundle, model_at: ModelAt, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(bytes(64 * 32 * 2))
    model = model_at("../secret", 0, 64 * 32 * 2)
    (affine_bundle.path / "affine.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"'\.\./secret', a file that the manifest lacks"):
        open_engine(affine_bundle, "affine")


_IR = b"""<?xml version="1.0"?>
<net name="g" version="11"><layers>
<layer id="0" name="x" type="Parameter" version="opset1">
<data shape="1" element_type="f32"/><output><port id="0"><dim>1</dim></port></output></layer>
<layer id="1" name="y" type="Result" version="opset1">
<input><port id="0"><dim>1</dim></port></input></layer>
</layers><edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges></net>"""


@pytest.mark.security
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n", b" "])
def test_another_format_of_a_backend_is_no_onnx_model(affine_bundle: Bundle, before: bytes) -> None:
    """OpenVINO takes its own format under any name, and reads a `.bin` beside it."""
    with pytest.raises(BundleError, match=r"affine.onnx: not a(n ONNX model| valid ONNX graph)"):
        check(affine_bundle, before + _IR)
    with pytest.raises(BundleError, match=r"affine.onnx: not a"):
        open_engine(affine_bundle, "affine", engine="openvino")


@pytest.mark.security
def test_what_is_merged_or_unknown_is_no_onnx_model(affine_bundle: Bundle) -> None:
    whole = _model()
    check(affine_bundle, whole)
    content = whole.SerializeToString()
    for other in (b"", content + content, content + b"\x82\x08\x00", _model(graph=None)):
        with pytest.raises(BundleError, match="not an ONNX model"):
            check(affine_bundle, other)
    with pytest.raises(BundleError, match="does not begin with the version"):
        check(affine_bundle, content[2:])  # without the version, which stands first
