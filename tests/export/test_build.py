import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import open_engine
from keyvid.engines.verification import verify_engine
from keyvid.errors import BundleError, SettingsError
from keyvid.export import build, ranges
from keyvid.export.build import ExportError, build_bundle
from keyvid.export.source import TOKENIZER, RandomOrigin, Source
from keyvid.export.stages import STAGES
from keyvid_ref.weights import NETWORKS, load_networks


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy of the exported bundle that a test may change."""
    return shutil.copytree(exported[0], tmp_path / "bundle")


def test_every_stage_is_in_the_bundle_and_close_to_the_reference(exported, micro):
    folder, reports = exported
    bundle = Bundle.load(folder)
    assert list(bundle.stages) == [report.name for report in reports] == list(STAGES)
    # float32 sums in another order: 1e-6 measured; the command itself allows 1e-4.
    assert all(0 < report.spec.error < 1e-5 for report in reports)
    assert {name: stage.error for name, stage in bundle.stages.items()} == {
        report.name: report.spec.error for report in reports
    }
    assert (bundle.preset, bundle.weights, bundle.name) == ("tiny", "random", "micro")
    assert (bundle.dimensions.latent_height, bundle.dimensions.latent_width) == (4, 6)
    assert bundle.conditioning.latent_scale == micro.latent_scale
    assert bundle.sampling == micro.sampling
    assert bundle.graph("interpolator", branches=2, temporal="windows").temporal == "windows"


def test_bundle_is_all_that_a_reference_and_an_engine_need(exported, micro):
    folder, _ = exported
    networks = load_networks(folder, micro)
    engine = open_engine(Bundle.load(folder), "localizer", engine="onnxruntime", threads=1)
    mel = np.random.default_rng(0).standard_normal((1, 1, 128, 198), np.float32)
    (motion,) = engine(mel=mel).values()
    engine.close()
    reference = networks.localizer(networks.localizer.linear1.weight.new_tensor(mel)).detach()
    np.testing.assert_allclose(motion, reference, rtol=1e-4, atol=1e-4)


def test_a_stage_is_replaced_and_the_others_are_kept(bundle, source):
    before = contents(bundle)
    (report,) = build_bundle(source, bundle, ["localizer"], families=["cuda"], verify=False)
    assert report.spec.error is None
    after = contents(bundle)
    assert after.keys() == before.keys()
    # Export is deterministic, so that only the manifest tells that a stage was not verified.
    assert {name for name in after if after[name] != before[name]} == {"bundle.json"}
    stages = Bundle.load(bundle).stages
    assert stages["localizer"].error is None
    assert stages["vae_encoder"].error is not None


def test_a_wrong_graph_fails_and_leaves_the_old_bundle(bundle, source, monkeypatch):
    before = contents(bundle)
    monkeypatch.setattr(build, "TOLERANCE", {"fp32": 1e-9})
    with pytest.raises(ExportError, match=r"localizer.onnx: relative error .* fp32 allows 1e-09"):
        build_bundle(source, bundle, ["localizer"])
    assert contents(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_a_wrong_graph_leaves_no_bundle(tmp_path, source, monkeypatch):
    monkeypatch.setattr(build, "relative_errors", lambda *_: [1e-6, float("nan")])
    with pytest.raises(ExportError, match=r"relative error nan .* on real inputs"):
        build_bundle(source, tmp_path / "bundle", ["localizer"])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_trace(tmp_path, source):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_bundle(source, tmp_path / "bundle", ["localizer"], progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_is_close(tmp_path, source):
    (report,) = build_bundle(source, tmp_path / "half", ["vae_decoder"], precision="fp16")
    # float16 rounds to 5e-4 each time; far below that the graph would not be half precision.
    assert 1e-5 < report.spec.error < 1e-2
    stage = Bundle.load(tmp_path / "half").stages["vae_decoder"]
    assert stage.precision == "fp16"
    assert stage.graphs[0].inputs["latent"].dtype == "float32"


def test_half_precision_that_overflows_is_refused(tmp_path, source, monkeypatch):
    monkeypatch.setattr(ranges, "_END", 5.0)
    with pytest.raises(ExportError, match=r"vae: '.*' gives more than float16 holds"):
        build_bundle(source, tmp_path / "half", ["vae_decoder"], precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_another_stage_reads_are_not_exchanged(bundle, micro):
    other = Source.random(micro, 1)
    with pytest.raises(SettingsError, match=r"vae.safetensors: differs .* --stage vae_decoder"):
        build_bundle(other, bundle, ["vae_encoder"])


def test_a_bundle_of_another_preset_is_not_mixed(bundle, source):
    other = Source.random(replace(source.preset, name="large"), 0)
    with pytest.raises(SettingsError, match="of preset tiny, not random ones of large"):
        build_bundle(other, bundle, ["localizer"])


@pytest.mark.parametrize("name", ["notes.txt", "data.json"])
def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path, source, name):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(SettingsError, match="would be replaced"):
        build_bundle(source, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "mine"


@pytest.fixture
def weights_folder(source, tmp_path):
    """A folder with the weights of the micro preset and no manifest."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in (*NETWORKS, TOKENIZER):
        source.write(name, folder)
    return folder


def test_missing_weights_are_named(micro, weights_folder, tmp_path):
    (weights_folder / "vae.safetensors").unlink()
    with pytest.raises(BundleError, match=r"vae.safetensors: no such file"):
        build_bundle(Source.open(micro, weights_folder), tmp_path / "out", ["localizer"])
    assert list(tmp_path.iterdir()) == [weights_folder]


@pytest.mark.parametrize("file", ["vae.safetensors", "tokenizer.json"])
def test_damaged_weights_are_named(micro, weights_folder, tmp_path, file):
    path = weights_folder / file
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match=rf"{path}: (cannot load the weights|not a tokenizer)"):
        build_bundle(Source.open(micro, weights_folder), tmp_path / "out", ["localizer"])
    assert list(tmp_path.iterdir()) == [weights_folder]


class OnlyTheAutoencoder(RandomOrigin):
    """Random weights of one network; the others are not there."""

    def read(self, network):
        if network != "vae":
            raise ValueError("no such network here")
        return super().read(network)


def test_a_large_picture_is_verified_in_small(micro, tmp_path):
    """The stage has its full size, and no other network is there."""
    large = Source(OnlyTheAutoencoder(replace(micro, height=128, width=256), 0))
    (report,) = build_bundle(large, tmp_path / "bundle", ["vae_decoder"])
    assert 0 < report.spec.error < 1e-5
    graph = Bundle.load(tmp_path / "bundle").graph("vae_decoder")
    assert graph.inputs["latent"].shape[2:] == (16, 32)
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {
        "bundle.json", "vae.safetensors", "vae_decoder.onnx",
    }  # fmt: skip


def test_a_small_graph_that_differs_proves_nothing(micro, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "read_nodes", lambda path: [path.name])
    large = Source.random(replace(micro, height=128, width=256), 0)
    with pytest.raises(ExportError, match="is not the graph that 64x128 pixels give"):
        build_bundle(large, tmp_path / "bundle", ["vae_decoder"])
    assert list(tmp_path.iterdir()) == []


def test_what_half_precision_keeps_in_float32_is_measured(tmp_path, source, monkeypatch):
    monkeypatch.setattr(ranges, "LIMIT", 5.0)
    folder = tmp_path / "half"
    (report,) = build_bundle(source, folder, ["vae_decoder"], precision="fp16")
    half = Bundle.load(folder).stages["vae_decoder"].half
    assert half == report.spec.half
    assert half.largest > 5
    assert half.module in half.islands
    assert half.norms > 0
    model = onnx.load(folder / "vae_decoder.onnx", load_external_data=False)
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    convs = [types.get(node.output[0]) for node in graph.node if node.op_type == "Conv"]
    assert {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16} <= set(convs)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_is_verified_by_the_bundle_alone(exported, engine):
    folder, _ = exported
    reports = list(verify_engine(Bundle.load(folder), engine))
    # float32 sums in another order; 1e-4 is what the command allows.
    assert all(report.error < 2e-5 for report in reports), reports
    assert len(reports) == sum(len(stage.variants) for stage in STAGES.values())
    assert (folder / "bundle.json").stat().st_size < 60_000  # outcomes take 1.4 kB per graph


def test_half_precision_on_each_engine(tmp_path, source):
    """OpenVINO drops the casts at the end of these graphs, and with them the outputs' names."""
    build_bundle(source, tmp_path / "half", ["text_encoder", "localizer"], precision="fp16")
    for engine in ("onnxruntime", "openvino"):
        reports = list(verify_engine(Bundle.load(tmp_path / "half"), engine))
        assert len(reports) == 2
        assert all(0 < report.error < 1e-2 for report in reports), reports


def test_what_is_not_verified_has_no_outcome(exported_half):
    stages = Bundle.load(exported_half).stages.values()
    assert all(graph.check is None for stage in stages for graph in stage.graphs)
