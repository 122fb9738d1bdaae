"""The judge from its released folder to a bundle, and what each engine makes of the fixture."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from keyvid.bundle.files import sha256_of
from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.engines.engine import open_engine
from keyvid.errors import BundleError
from keyvid.export.build import build_bundle
from keyvid.export.cli import main
from keyvid.export.cuda_check import find_cpu_nodes
from keyvid.export.released import REPOSITORY, REVISION
from keyvid.export.source import Source
from keyvid.export.stages import AVSYNC_STAGES, Variant
from keyvid.export.tensorrt_check import find_problems
from keyvid.export.verify import read_nodes
from keyvid.score.relsync.judge import Judge
from keyvid.score.relsync.verdicts import relsync
from keyvid_ref.checkpoint import AVSYNC_FOLDERS, find_avsync
from keyvid_ref.presets import AVSYNC
from tests.avsync import write_release
from tests.export.stand_in_hub import Repository

ENGINES = ("onnxruntime", "openvino")
SMALL = replace(AVSYNC, height=64, width=64)  # as the fixture's frames


@contextmanager
def one_graph_each():
    """Stages of three clips a call only: tracing is slow."""
    with pytest.MonkeyPatch.context() as patch:
        for name, stage in AVSYNC_STAGES.items():
            patch.setitem(AVSYNC_STAGES, name, replace(stage, variants=(Variant(3),)))
        yield


@pytest.fixture(scope="module")
def release(fill, tmp_path_factory):
    """The judge's folder as it is released, with the fixture's weights."""
    return write_release(tmp_path_factory.mktemp("released"), fill)


@pytest.fixture(scope="module")
def bundles(release, tmp_path_factory):
    """The judge in float32, verified, and in half precision."""
    folder, source = tmp_path_factory.mktemp("judges"), Source.released(SMALL, find_avsync(release))
    reports = build_bundle(source, folder / "fp32", tuple(AVSYNC_STAGES))
    assert all(report.spec.error < 1e-5 for report in reports)
    with one_graph_each():  # tells of half precision
        build_bundle(source, folder / "fp16", tuple(AVSYNC_STAGES), precision="fp16", verify=False)
    return {precision: Bundle.load(folder / precision) for precision in ("fp32", "fp16")}


def run(bundle, stage, engine, batch, **inputs):
    """The output of a stage for two rows, in calls of `batch`."""
    opened = open_engine(bundle, stage, engine=engine, branches=batch)
    calls = [[0], [1]] if batch == 1 else [[0, 1, 1]]
    outputs = [opened(**{name: x[index] for name, x in inputs.items()}) for index in calls]
    opened.close()
    return np.concatenate([next(iter(output.values())) for output in outputs])[:2]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("precision", "tolerance", "batch"), [("fp32", 1e-4, 1), ("fp32", 1e-4, 3), ("fp16", 5e-3, 3)]
)
def test_each_engine_judges_as_the_released_one(
    bundles, fill, parity, relative_error, precision, tolerance, engine, batch
):
    want, bundle = parity("avsync"), bundles[precision]
    mel = fill.tensor("avsync:mel", (2, 1, 128, 204))
    video = fill.tensor("avsync:video", (2, 3, 12, 64, 64))
    heard = run(bundle, "avsync_audio", engine, batch, mel=mel)
    seen = run(bundle, "avsync_video", engine, batch, video=video)
    assert relative_error(heard, want["audio_embedding"]) < tolerance
    assert relative_error(seen, want["video_embedding"]) < tolerance
    embeddings = {"audio_embedding": heard, "video_embedding": seen}
    score = run(bundle, "avsync_head", engine, batch, **embeddings)[:, 0]
    embeddings["audio_embedding"] = heard[::-1]
    swapped = run(bundle, "avsync_head", engine, batch, **embeddings)[:, 0]
    assert relative_error(score, want["score"]) < tolerance
    assert relative_error(swapped, want["score_swapped_sound"]) < tolerance
    assert relative_error(relsync(swapped, score), want["relsync"]) < tolerance


def test_graphs_keep_released_names_and_no_made_up_biases(bundles):
    for stage in AVSYNC_STAGES:
        path = bundles["fp32"].path / f"{stage}.b1.onnx"
        for operator, weights in read_nodes(path):
            assert len(weights) == {"Conv": 1, "BatchNormalization": 4, "Gemm": 2}.get(operator, 0)


def test_the_bundle_says_what_it_is_and_makes_no_clips(bundles):
    bundle = bundles["fp32"]
    assert (bundle.preset, list(bundle.stages)) == ("avsync", list(AVSYNC_STAGES))
    assert set(bundle.sources or {}) == set(AVSYNC_STAGES)
    assert not any(name.startswith("tokenizer") for name in bundle.files)
    with pytest.raises(BundleError, match="a clip needs the stages text_encoder, "):
        check_complete(bundle)
    for graph in bundle.stages["avsync_video"].graphs:
        assert graph.check is not None, "an engine can be verified without torch"


@pytest.mark.parametrize("num_films", [2, 4])
def test_the_judge_takes_any_number_at_a_time(bundles, fill, num_films):
    judge = Judge(bundles["fp32"], "onnxruntime")
    rng = np.random.default_rng(0)
    films = rng.integers(0, 256, (num_films, 12, 30, 40, 3), np.uint8)
    sounds = rng.standard_normal((num_films, 32_000)).astype(np.float32)
    heard, seen = judge.hear(sounds), judge.look(films)
    alone = [
        judge.score(judge.hear([s]), judge.look([f])) for s, f in zip(sounds, films, strict=True)
    ]
    assert judge.score(heard, seen) == pytest.approx(np.concatenate(alone), rel=1e-4)
    judge.close()


def test_bundles_without_a_judge_are_refused(bundles, tmp_path):
    with pytest.raises(BundleError, match=r"holds no judge \(avsync_audio is missing\); make one"):
        Judge(Bundle.load("tiny"))
    bundle = bundles["fp32"]
    size = replace(bundle.dimensions, frames=11)
    with pytest.raises(BundleError, match=r"'video' is float32 \(3, 3, 12, 64, 64\), want"):
        Judge(replace(bundle, dimensions=size))
    with pytest.raises(BundleError, match="sample_rate is 8000, want 16000"):
        Judge(replace(bundle, dimensions=replace(bundle.dimensions, sample_rate=8000)))


def test_the_command_takes_the_released_folder(release, tmp_path, capsys):
    out = tmp_path / "judge"
    args = ["--preset", "avsync", "--stage", "avsync_head", "--avsync", str(release)]
    assert main([*args, "--no-verify", "--out", str(out)]) == 0
    assert list(Bundle.load(out).stages) == ["avsync_head"]


def test_one_command_fetches_the_judge_from_the_hub(hub, release, tmp_path, capsys, monkeypatch):
    """From among the rest that is published, wherever its folder lies."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2**20)
    monkeypatch.setattr("keyvid_ref.presets.AVSYNC", SMALL)
    files = {
        f"avsync/vggss_sync_contrast_12/some/{path.relative_to(release)}": path.read_bytes()
        for path in find_avsync(release).values()
    }
    files["KeyVID/keyframe_generation/generator_checkpoint.ckpt"] = b"not asked for"
    hub.repositories[REPOSITORY] = Repository({REVISION: files}, main=REVISION)
    out = tmp_path / "avsync"
    with one_graph_each():
        code = main(["--preset", "avsync", "--from-hub", "--no-verify", "--out", str(out)])
    error = capsys.readouterr().err
    assert code == 0, error
    assert "licences: that of the judge's weights is not known" in error
    bundle = Bundle.load(out)
    for name, source in (bundle.sources or {}).items():
        assert (source.repository, source.revision) == (REPOSITORY, REVISION)
        assert f"/{AVSYNC_FOLDERS[name]}/" in (source.path or "")
        assert source.sha256 == sha256_of(find_avsync(release)[name])
    assert bundle.licences == dict.fromkeys(AVSYNC_STAGES, "not known")
    assert len(hub.downloads()) == len(AVSYNC_FOLDERS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "preset avsync has no packaged weights; give --from-hub, released files such as "
             "--avsync FOLDER"),
        (["--avsync", "nowhere"], "nowhere/audio_encoder/diffusion_pytorch_model.bin: no such"),
        (["--stage", "generator"], "unknown stage 'generator'; valid: avsync_audio, avsync_video,"),
        (["--generator", "x"], "avsync_audio: needs --avsync FOLDER; give it, or choose other"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    assert main(["--preset", "avsync", *args]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_half_precision_runs_on_cuda_and_tensorrt_as_far_as_their_documents_tell(bundles):
    for stage in AVSYNC_STAGES:
        path = bundles["fp16"].path / f"{stage}.b3.onnx"
        assert find_problems(path) == []
        assert find_cpu_nodes(path) == []
