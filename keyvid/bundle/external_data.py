"""What an ONNX graph is and reads its weights from, checked before a backend opens it.

A graph may name any path, offset and length for a tensor's data. The backends follow such names
with differing care, so only a plain name of a file that `bundle.json` lists is let through, with
offset and length inside that file. And OpenVINO goes by a file's content, not by its name: what is
no ONNX model may be one of its other formats, which read other files. The ONNX protobuf is read
just far enough for that; the `onnx` package is no dependency of the runtime.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir

from keyvid.bundle.manifest import Bundle
from keyvid.errors import BundleError
from keyvid.file_safety import temporary_folder

# Field numbers of onnx.proto (onnx 1.x, IR version 3 to 13) on the way to external data:
# message -> field -> message in that field.
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
}
# A parser merges a second occurrence of these into the first, which no exporter writes.
_SINGULAR = {
    ("Model", 7),
    ("Training", 1),
    ("Training", 2),
    ("Attribute", 5),
    ("Attribute", 6),
    ("Attribute", 22),
    ("SparseTensor", 1),
    ("SparseTensor", 2),
}
# Field of ModelProto -> its wire type: 0 for a number, 2 for what has a length.
_MODEL_FIELDS = {
    **dict.fromkeys((1, 5), 0),  # versions of the format and of the model
    **dict.fromkeys((2, 3, 4, 6), 2),  # producer, its version, domain, documentation
    **dict.fromkeys((7, 8, 14), 2),  # graph, operator sets, metadata
    **dict.fromkeys((20, 25, 26), 2),  # training, functions, devices
}
_IR_VERSION, _GRAPH, _OPERATOR_SET = 1, 7, 8
_EXTERNAL_DATA = 13  # field of Tensor: entries of a key (field 1) and a value (field 2)
_LINKS_PREFIX = ".keyvid-links-"
_NUMBER = re.compile(r"[0-9]{1,18}")

# What `_ends` has found, by the sha256 of a graph: each is asked for several times a process.
_known: dict[bytes, dict[str, int]] = {}


def check_external_data(bundle: Bundle, graph_file: str) -> None:
    """Refuse a graph of `bundle` that is no ONNX model, or reads from other files than it lists.

    Raises:
        BundleError: names the graph and what it tried to read.
    """
    path = bundle.path / graph_file
    try:
        for name, end in _ends(path).items():
            if name not in bundle.files:
                raise ValueError(f"external data in {name!r:.60}, a file that the manifest lacks")
            if end > bundle.files[name].bytes:
                raise ValueError(f"external data up to byte {end} of {name}, which is shorter")
    except (ValueError, OSError) as error:
        raise BundleError(f"{path}: {error}; export it again with keyvid-export") from None


def external_files(path: Path) -> set[str]:
    """Names of the files that the graph at `path` reads, which was checked before."""
    return {*_ends(path)}


@contextmanager
def without_links(path: Path) -> Iterator[Path]:
    """The graph at `path`, which was checked before, beside its weights, none of them a link.

    Backends refuse weights that lie outside the graph's folder. Where there are links, all files
    get second names in a folder in the temporary one, or on another disk than that beside what they
    lead to; nothing is copied. It goes again; one that a killed process left, the next one removes.

    Raises:
        BundleError: there can be no such folder.
    """
    files = [path.with_name(name) for name in (path.name, *external_files(path))]
    if not any(file.is_symlink() for file in files):
        yield path
        return
    with ExitStack() as stack:
        for place in (Path(gettempdir()), files[-1].resolve().parent):
            try:
                folder = stack.enter_context(_second_names(files, place))
                break
            except OSError as error:
                reason = error.strerror
        else:
            raise BundleError(
                f"{path.parent}: its files are links, and cannot be linked into one folder "
                f"({reason}); copy the bundle with cp -rL"
            )
        yield folder / path.name


@contextmanager
def _second_names(files: list[Path], place: Path) -> Iterator[Path]:
    """A folder in `place` with hard links to what `files` lead to."""
    with temporary_folder(place, _LINKS_PREFIX) as folder:
        for file in files:
            os.link(file.resolve(), folder / file.name)
        yield folder


def _ends(path: Path) -> dict[str, int]:
    """How far the ONNX model at `path` reads in each of the files that it names.

    Raises:
        ValueError: it is no such model, or says so in another way than exporters do.
    """
    data = path.read_bytes()
    content = hashlib.sha256(data).digest()
    if content not in _known:
        ends: dict[str, int] = {}
        for entries in _external_entries(data):
            name = entries.get("location", "")
            ends[name] = max(ends.get(name, 0), _end(entries))
        _check_model(data)
        _known[content] = ends
    return _known[content]


def _end(entries: dict[str, str]) -> int:
    """The byte that a tensor's data ends before, in its file."""
    if unknown := entries.keys() - {"location", "offset", "length", "checksum"}:
        raise ValueError(f"external data with unknown key {min(unknown)!r:.40}")
    offset, length = entries.get("offset", "0"), entries.get("length", "")
    if not _NUMBER.fullmatch(offset) or not _NUMBER.fullmatch(length):
        raise ValueError(f"external data at offset {offset!r:.30} with length {length!r:.30}")
    return int(offset) + int(length)


def _check_model(data: bytes) -> None:
    """Refuse, with a ValueError, what does not begin as a ModelProto and hold its fields alone."""
    tags = [tag for tag, _, _ in _tagged(data, 0, len(data))]
    fields = Counter(tag >> 3 for tag in tags)
    if not tags or tags[0] != _IR_VERSION << 3:
        raise ValueError("not an ONNX model: it does not begin with the version of the format")
    for tag in tags:
        if _MODEL_FIELDS.get(tag >> 3) != tag & 7:
            raise ValueError(f"not an ONNX model: field {tag >> 3}, type {tag & 7}")
    if fields[_GRAPH] != 1 or not fields[_OPERATOR_SET] or fields[_IR_VERSION] != 1:
        raise ValueError("not an ONNX model: it wants one version, one graph and an operator set")


def _external_entries(data: bytes) -> Iterator[dict[str, str]]:
    """External data entries, key -> value, of each tensor of a serialised ModelProto.

    Parts without the bytes "location" are passed over: no entry can do without that key.
    """
    stack = [("Model", 0, len(data))]
    while stack:
        message, start, end = stack.pop()
        if data.find(b"location", start, end) < 0:
            continue
        if message == "Tensor":
            yield _tensor_entries(data, start, end)
            continue
        seen = set()
        for field, field_start, field_end in _fields(data, start, end):
            if field in _FIELDS[message]:
                if field in seen and (message, field) in _SINGULAR:
                    raise ValueError(f"not a valid ONNX graph: field {field} of {message} twice")
                seen.add(field)
                stack.append((_FIELDS[message][field], field_start, field_end))


def _tensor_entries(data: bytes, start: int, end: int) -> dict[str, str]:
    entries: dict[str, str] = {}
    for field, entry_start, entry_end in _fields(data, start, end):
        if field != _EXTERNAL_DATA:
            continue
        pair = {
            number: data[s:e].decode() for number, s, e in _fields(data, entry_start, entry_end)
        }
        key, value = pair.get(1, ""), pair.get(2, "")
        if key in entries:
            raise ValueError(f"external data with key {key!r:.40} twice")
        entries[key] = value
    return entries


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each length-delimited field of the message in data[start:end]."""
    for tag, field_start, field_end in _tagged(data, start, end):
        if tag & 7 == 2:
            yield tag >> 3, field_start, field_end


def _tagged(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag, start and end of each field of the message in data[start:end]."""
    while start < end:
        tag = data[start]  # nearly all numbers are of one byte, and graphs hold very many
        start += 1
        if tag >= 0x80:
            tag, start = _varint(data, start - 1, end)
        wire_type, field_start = tag & 7, start
        if wire_type == 2:
            if start < end and data[start] < 0x80:
                length, start = data[start], start + 1
            else:
                length, start = _varint(data, start, end)
            if length > end - start:
                raise ValueError("not a valid ONNX graph: a field ends after its message")
            field_start, start = start, start + length
        elif wire_type == 0:
            _, start = _varint(data, start, end)
        elif wire_type == 1:
            start += 8
        elif wire_type == 5:
            start += 4
        else:
            raise ValueError(f"not a valid ONNX graph: wire type {wire_type}")
        if start > end:
            raise ValueError("not a valid ONNX graph: it is cut off")
        yield tag, field_start, start


def _varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """The number at data[start] and the index after it."""
    value = 0
    for shift, index in enumerate(range(start, min(end, start + 10))):
        value |= (data[index] & 0x7F) << (7 * shift)
        if data[index] < 0x80:
            return value, index + 1
    raise ValueError("not a valid ONNX graph: a number is cut off")
