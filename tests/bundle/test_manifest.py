"""A bundle is read as it was written, and each kind of damage is named in one line."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyvid.bundle import files
from keyvid.bundle import manifest as bundle_module
from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.bundle.specs import GraphSpec
from keyvid.errors import BundleError
from keyvid.sampling import Changes, UNetSettings


@pytest.fixture
def edit(affine_bundle: Bundle) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """`edit(change)`: the bundle's folder, after `change` on the decoded bundle.json."""

    def apply(change: Callable[[dict[str, Any]], None]) -> Path:
        manifest = affine_bundle.path / "bundle.json"
        content = json.loads(manifest.read_text())
        change(content)
        manifest.write_text(json.dumps(content))
        return affine_bundle.path

    return apply


def assert_refused(path: Path | str, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(path)
    assert "\n" not in str(caught.value)


def test_reads_what_was_written(affine_bundle: Bundle) -> None:
    assert Bundle.load(affine_bundle.path) == affine_bundle
    assert Bundle.load(str(affine_bundle.path)) == affine_bundle


def test_whole_numbers_do_for_floats(
    edit: Callable[[Callable[[dict[str, Any]], None]], Path],
) -> None:
    path = edit(lambda content: content["sampling"]["generator"].update(eta=1))
    assert isinstance(Bundle.load(path).sampling.generator.eta, float)


def test_graphs_and_branches(affine_bundle: Bundle) -> None:
    stage = affine_bundle.stages["affine"]

    def graph(branches: int, temporal: str) -> GraphSpec:
        return replace(stage.graphs[0], branches=branches, temporal=temporal)

    graphs = tuple(graph(b, t) for b in (4, 1) for t in ("full", "windows"))
    bundle = replace(affine_bundle, stages={"affine": replace(stage, graphs=graphs)})
    assert bundle.branches("affine") == (1, 4)
    assert affine_bundle.branches("affine") == ()
    assert bundle.graph("affine", branches=4, temporal="full") == graphs[0]
    assert bundle.graph("affine", branches=1, temporal="windows") == graphs[3]
    with pytest.raises(BundleError, match=r"2 graphs .* name one of 4/full, 4/windows, 1/full"):
        bundle.graph("affine", branches=4)
    with pytest.raises(BundleError, match=r"0 graphs .* fit branches 2 and temporal full"):
        bundle.graph("affine", branches=2, temporal="full")
    with pytest.raises(BundleError, match="no stage 'decoder'; this bundle has affine"):
        bundle.graph("decoder")


def test_no_such_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path / "x", "no such folder; name a folder .* packaged bundle: tiny")
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file", "is no folder")
    assert_refused("x" * 5000, "no such folder")
    assert_refused(tmp_path, r"bundle\.json: missing from the bundle")


def test_the_packaged_name_is_not_a_path(
    affine_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder called "tiny" needs "./"; a missing packaged bundle is said to be that."""
    monkeypatch.chdir(tmp_path)
    affine_bundle.path.rename("tiny")
    assert Bundle.load("./tiny").name == "affine"
    monkeypatch.setattr(bundle_module.resources, "files", lambda _: tmp_path)
    assert_refused("tiny", "the packaged bundle 'tiny' is missing; install keyvid again")
    (tmp_path / "bundles").mkdir()
    Path("tiny").rename(tmp_path / "bundles" / "tiny")
    assert Bundle.load("tiny").name == "affine"


@pytest.mark.parametrize("name", ["affine.onnx", "affine.safetensors"])
def test_damaged_files(affine_bundle: Bundle, name: str) -> None:
    path = affine_bundle.path / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(affine_bundle.path, rf"{name}: sha256 [0-9a-f]{{12}}.*copy or export it again")
    Bundle.load(affine_bundle.path, verify=False)
    path.write_bytes(content[:-1])
    assert_refused(affine_bundle.path, rf"{name}: {len(content) - 1} bytes, .*{len(content)}")
    path.unlink()
    assert_refused(affine_bundle.path, rf"{name}: missing from the bundle; copy or export it")
    path.mkdir()
    assert_refused(affine_bundle.path, rf"{name}: not a regular file")


def test_a_bundle_of_links_is_one(affine_bundle: Bundle, tmp_path: Path) -> None:
    """The cache of the Hugging Face Hub holds links to files that are named for their hash."""
    for path in [*affine_bundle.path.iterdir()]:
        blob = tmp_path / f"blob-{path.name}"
        path.rename(blob)
        path.symlink_to(f"../{blob.name}")
    assert Bundle.load(affine_bundle.path) == affine_bundle


def test_what_a_link_leads_to_must_be_what_the_manifest_states(
    affine_bundle: Bundle, tmp_path: Path
) -> None:
    path = affine_bundle.path / "affine.safetensors"
    size = path.stat().st_size
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert_refused(affine_bundle.path, r"affine\.safetensors: missing from the bundle")
    (tmp_path / "secret").write_bytes(bytes(size))
    assert_refused(affine_bundle.path, r"affine\.safetensors: sha256")
    with pytest.raises(BundleError, match="not a regular file; replace it by a copy"):
        Bundle.load(affine_bundle.path, verify=False)  # nothing else is known of it
    path.unlink()
    path.symlink_to("/dev/zero")
    assert_refused(affine_bundle.path, "not a regular file")
    path.unlink()
    path.symlink_to(path.name)
    assert_refused(affine_bundle.path, "cannot be read: Too many levels of symbolic links")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "a\\b", "C:x", ".hidden", "..", "", "a\n", "é"]
)
def test_names_that_leave_the_folder(
    edit: Callable[[Callable[[dict[str, Any]], None]], Path], name: str
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["files"][name] = content["files"]["affine.onnx"]

    assert_refused(edit(change), "is not a plain name|printable")


def test_files_are_hashed_once_unless_they_change(
    affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bundle.load(affine_bundle.path)
    hashed: list[Path] = []

    def spy(path: Path) -> str:
        hashed.append(path)
        return original(path)

    original = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", spy)
    Bundle.load(affine_bundle.path)
    assert hashed == []
    graph = affine_bundle.path / "affine.onnx"
    os.utime(graph, ns=(1, 1))
    Bundle.load(affine_bundle.path)
    assert hashed == [graph]


def test_a_changed_manifest_is_not_met_by_an_earlier_check(
    affine_bundle: Bundle, edit: Callable[[Callable[[dict[str, Any]], None]], Path]
) -> None:
    Bundle.load(affine_bundle.path)
    path = edit(lambda content: content["files"]["affine.onnx"].update(sha256="0" * 64))
    assert_refused(path, "bundle.json says 000000000000")


def _set(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return change


GRAPH = ("stages", "affine", "graphs", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema", to=4), r"schema 4 is newer .* reads \(3\); install a newer keyvid"),
        (_set("schema", to=0), "schema is 0, want 3; export it again"),
        (_set("schema", to=True), "schema is True, want 3"),
        (lambda content: content.pop("schema"), "schema is None, want 3"),
        (lambda content: content.pop("sampling"), "key sampling is missing; export it again"),
        (_set("extra", to=1), "unknown key 'extra'; valid are name, preset"),
        (
            _set("sampling", "generator", "ets", to=1),
            "unknown key 'sampling.generator.ets'; valid are steps, spacing, solver",
        ),
        (
            _set("sampling", "generator", "steps", to=2.5),
            "sampling.generator.steps is 2.5, want a whole number",
        ),
        (
            _set("sampling", "generator", "eta", to="1"),
            "sampling.generator.eta is '1', want a number",
        ),
        (
            _set("qualities", to={"fast": {"step": 8}}),
            "unknown key 'qualities.fast.step'; valid are steps, spacing, solver",
        ),
        (
            _set("qualities", to={"fast": {"interpolator": {"steps": "few"}}}),
            "qualities.fast.interpolator.steps is 'few', want a whole number",
        ),
        (_set("qualities", to={"good": {}}), "qualities"),
        (_set("conditioning", "latent_sample", to=0), "latent_sample is 0, want true or false"),
        (_set("dimensions", "frames", to=0), "dimensions.frames is 0, want a whole number >= 1"),
        (_set("dimensions", "frames", to=True), "dimensions.frames is True, want a whole number"),
        (_set("dimensions", to=[]), r"dimensions is \[\], want an object"),
        (_set("weights", to="good"), "weights is 'good', want trained or random"),
        (_set("name", to="a\nb"), "name is 'a.nb', want printable characters"),
        (_set("makers", to={"torch": 2}), "makers.torch is 2, want a string"),
        (_set("makers", to={"a\x1b": "2"}), "a key of makers is .*, want printable"),
        (_set("stages", "affine", "precision", to="int4"), "is 'int4', want fp32 or fp16"),
        (_set("stages", "affine", "graphs", to=[]), "stages.affine has no graphs"),
        (_set("stages", "affine", "graphs", to={}), "graphs is {}, want a list"),
        (_set(*GRAPH, "file", to="b.onnx"), "names 'b.onnx', which is not among files"),
        (_set(*GRAPH, "branches", to="4"), r"graphs\[0\].branches is '4', want a whole number"),
        (_set(*GRAPH, "inputs", "x", "dtype", to="float8"), "'float8', want float32 or int64"),
        (
            _set(*GRAPH, "inputs", "x", "shape", 0, to=-1),
            r"x.shape\[0\] is -1, want a whole number >= 1",
        ),
        (
            _set("files", "affine.onnx", "bytes", to=-1),
            "onnx.bytes is -1, want a whole number >= 0",
        ),
        (
            _set("files", "affine.onnx", "sha256", to="AB"),
            "sha256 is 'AB', want 64 hex",
        ),
        (_set("files", to=None), "files is null, want an object"),
    ],
)
def test_wrong_manifests(
    edit: Callable[[Callable[[dict[str, Any]], None]], Path],
    change: Callable[[dict[str, Any]], None],
    message: str,
) -> None:
    assert_refused(edit(change), rf"bundle\.json: .*{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"[]", "schema is None"),
        (b"\xff\xfe\x00", "codec can't decode"),
        (b'{"schema": NaN}', "NaN is no JSON number"),
        (b'{"schema": 1, "schema": 2}', "key 'schema' stands twice"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_malformed_json(affine_bundle: Bundle, text: bytes, message: str) -> None:
    (affine_bundle.path / "bundle.json").write_bytes(text)
    assert_refused(affine_bundle.path, rf"bundle\.json: .*{message}.*; export it again")


def test_huge_numbers(affine_bundle: Bundle) -> None:
    manifest = affine_bundle.path / "bundle.json"
    text = manifest.read_text().replace('"eta": 1.0', '"eta": 1e999')
    manifest.write_text(text)
    assert_refused(affine_bundle.path, "sampling.generator.eta is not finite")


def test_optional_values_may_be_left_out(
    affine_bundle: Bundle, edit: Callable[[Callable[[dict[str, Any]], None]], Path]
) -> None:
    path = edit(lambda content: content["stages"]["affine"].pop("error"))
    assert Bundle.load(path).stages["affine"].error is None
    stage = replace(affine_bundle.stages["affine"], error=None)
    bundle = replace(affine_bundle, stages={"affine": stage})
    write_manifest(path, bundle)
    assert Bundle.load(path) == bundle
    edit(lambda content: content.pop("qualities"))
    assert Bundle.load(path) == bundle, "older bundles have none"


def test_qualities_are_written_as_differences(affine_bundle: Bundle) -> None:
    fast = Changes(steps=8, interpolator=UNetSettings(eta=0.0))
    bundle = replace(affine_bundle, qualities={"fast": fast})
    write_manifest(bundle.path, bundle)
    content = json.loads((bundle.path / "bundle.json").read_text())
    assert content["qualities"] == {"fast": {"steps": 8, "interpolator": {"eta": 0.0}}}
    assert Bundle.load(bundle.path) == bundle
