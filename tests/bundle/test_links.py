"""A bundle whose files are links, as the cache of the Hugging Face Hub keeps them, runs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from keyvid.bundle.external_data import without_links
from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
from keyvid.errors import BundleError


@pytest.fixture
def linked(affine_bundle: Bundle, tmp_path: Path) -> Bundle:
    """The bundle "affine" as links into the folder `blobs`."""
    (tmp_path / "blobs").mkdir()
    for number, path in enumerate([*affine_bundle.path.iterdir()]):
        blob = tmp_path / "blobs" / str(number)
        path.rename(blob)
        path.symlink_to(f"../blobs/{blob.name}")
    return Bundle.load(affine_bundle.path)


@pytest.mark.parametrize("copied", [None, "affine.onnx", "affine.safetensors"])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_engines_run_it(
    linked: Bundle, affine: SimpleNamespace, name: str, copied: str | None, tmp_path: Path
) -> None:
    if copied:  # not all of them are links
        path = linked.path / copied
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    blobs = {path.name for path in (tmp_path / "blobs").iterdir()}
    engine = open_engine(linked, "affine", engine=name)
    inputs = affine.draw(0)
    np.testing.assert_allclose(engine(**inputs)["y"], affine.expected(**inputs), atol=1e-5)
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == blobs


def test_where_no_second_name_can_be_given_it_is_said(
    linked: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    with pytest.raises(BundleError, match=r"files are links, .* \(Invalid cross-.* cp -rL"):
        open_engine(linked, "affine", engine="openvino")


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(
    linked: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "temporary"
    (place / ".keyvid-links-left.tmp").mkdir(parents=True)
    monkeypatch.setattr("keyvid.bundle.external_data.gettempdir", lambda: str(place))
    graph = linked.path / "affine.onnx"
    with without_links(graph) as first, without_links(graph) as second:
        assert {path.name for path in place.iterdir()} == {first.parent.name, second.parent.name}
        assert first.read_bytes() == second.read_bytes() == graph.read_bytes()
    assert list(place.iterdir()) == []
