import json
import re
import sys

import pytest

from keyvid.bundle.files import sha256_of
from keyvid.bundle.manifest import Bundle
from keyvid.export.cli import main
from keyvid.export.released import LICENCES, REVISION
from keyvid.export.source import Source
from tests.engines.rtx import needs_rtx


@pytest.fixture
def small_preset(monkeypatch, micro):
    """Lets --preset tiny mean the micro preset."""
    monkeypatch.setattr("keyvid_ref.presets.PRESETS", {"tiny": micro})


def run(capsys, *args):
    """Exit code, stdout and stderr of the command."""
    code = main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_export_of_one_stage(tmp_path, capsys, small_preset):
    out = tmp_path / "bundle"
    code, stdout, stderr = run(
        capsys, "--random-weights", 3, "--stage", "localizer", "--for", "cuda", "--out", out
    )
    assert code == 0
    header, row, path = stdout.splitlines()
    assert header.split() == ["stage", "size", "time", "error"]
    assert row.split()[0] == "localizer"
    assert float(row.split()[-1]) < 1e-4
    assert path == str(out)
    assert "localizer.onnx, localizer.cuda.onnx" in stderr
    bundle = Bundle.load(out)
    assert list(bundle.stages) == ["localizer"]
    assert [graph.form for graph in bundle.stages["localizer"].graphs] == ["plain", "cuda"]
    assert bundle.graph("localizer").file == "localizer.onnx"
    assert bundle.graph("localizer", form="cuda").file == "localizer.cuda.onnx"


def test_half_precision_says_how_large_values_get(tmp_path, capsys, small_preset):
    code, stdout, _ = run(
        capsys, "--random-weights", 3, "--stage", "localizer", "--precision", "fp16",
        "--out", tmp_path / "half",
    )  # fmt: skip
    assert code == 0
    header, row, *legend, _ = stdout.splitlines()
    cells = dict(
        zip(
            header.split(),
            row.replace(" MB", "MB").replace(" kB", "kB").replace(" s", "s").split(),
            strict=True,
        )
    )
    assert 0 < float(cells["largest"]) < 65504
    assert cells["islands"].endswith("+0")
    assert re.match(r"imagebindMoodel\.|linear[123]$", cells["in"])
    assert 1e-5 < float(cells["rounding"]) < 1e-2
    assert "float16 ends at 65504" in " ".join(legend)


def test_a_bundle_gives_the_weights_for_another(exported, tmp_path, capsys, small_preset):
    code, *_ = run(
        capsys, "--weights", exported[0], "--stage", "localizer", "--no-verify",
        "--precision", "fp16", "--out", tmp_path / "half",
    )  # fmt: skip
    assert code == 0
    stage = json.loads((tmp_path / "half" / "bundle.json").read_text())["stages"]["localizer"]
    assert (stage["precision"], stage["error"]) == ("fp16", None)
    assert Bundle.load(tmp_path / "half").weights == "random"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--stage", "unet"], "unknown stage 'unet'; valid: text_encoder, image_encoder,"),
        (["--preset", "huge"], "unknown preset 'huge'; valid: keyvid-512, tiny"),
        (["--weights", "nowhere"], "nowhere: no such folder"),
        (["--weights", "."], "safetensors: no such file"),
        (
            ["--engine", "cuda"],
            "unknown engine 'cuda'; valid: tensorrt, tensorrt-rtx, tensorrt-str",
        ),
        (["--target", "sm89"], "--max-memory and --with-plans go with --engine tensorrt-rtx"),
        (["--precision", "int8"], "'int8' is not one of 'fp32', 'fp16'"),
        (["--random-weights", "0", "--out", "no/such"], "no: no such folder; create it"),
        (["--random-weights", "0", "--weights", "."], "--weights and --random-weights exclude"),
        (["--weights", ".", "--from-hub"], "--weights and released files exclude each other"),
        (["--preset", "keyvid-512"], "no packaged weights; give --from-hub, released files"),
        (["--generator", "none.ckpt", "--stage", "generator"], "none.ckpt: no such file; it is"),
        (["--generator", "none.ckpt", "--stage", "localizer"], "localizer: needs --localizer FILE"),
        (["--revision", "main"], "--revision and --drop-downloads go with --from-hub"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    code, stdout, stderr = run(capsys, "--out", "bundle", *args)
    assert code == 2
    assert stdout == ""
    assert stderr.startswith("keyvid-export: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_plans_are_refused_before_anything_is_exported(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # its import fails
    monkeypatch.setattr("keyvid.export.build.build_bundle", lambda *_, **__: pytest.fail("exports"))
    code, stdout, stderr = run(capsys, "--engine", "tensorrt", "--out", tmp_path / "bundle")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("keyvid-export: engine tensorrt cannot be used: ")
    assert stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@needs_rtx
def test_plans_of_what_was_exported_are_built(tmp_path, capsys, monkeypatch, small_preset):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "bundle"
    code, stdout, _ = run(
        capsys, "--random-weights", 3, "--stage", "localizer", "--no-verify",
        "--precision", "fp16", "--engine", "tensorrt-rtx", "--target", "sm86,sm89", "--with-plans",
        "--out", out,
    )  # fmt: skip
    assert code == 0
    (plan,) = (Bundle.load(out).plans or {}).values()
    assert (plan["file"], plan["targets"]) == ("localizer.onnx", "sm86,sm89")
    assert any(line.startswith("localizer.onnx ") for line in stdout.splitlines())


def test_a_failed_verification_exits_with_2(tmp_path, capsys, monkeypatch, small_preset):
    monkeypatch.setattr("keyvid.export.build.TOLERANCE", {"fp32": 1e-12})
    code, stdout, stderr = run(
        capsys, "--random-weights", 0, "--stage", "localizer", "--out", tmp_path / "bundle"
    )
    assert (code, stdout) == (2, "")
    assert "fp32 allows 1e-12" in stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def published_preset(monkeypatch, published):
    """Lets --preset keyvid-512 mean the small published preset."""
    monkeypatch.setattr("keyvid_ref.presets.PRESETS", {"keyvid-512": published})


def test_released_files_and_the_hub_make_a_bundle(
    tmp_path, capsys, published_preset, published, released, published_hub
):
    """All stages of the released layout, verified, made from what is given and what the Hub has."""
    out = tmp_path / "bundle"
    code, stdout, stderr = run(
        capsys, "--preset", "keyvid-512", "--from-hub", "--imagebind", released["imagebind"],
        "--out", out,
    )  # fmt: skip
    assert code == 0
    assert all(float(row.split()[-1]) < 1e-4 for row in stdout.splitlines()[1:-1])
    assert stderr.count("CC-BY-NC-4.0") == 1
    bundle = Bundle.load(out)
    assert (bundle.preset, bundle.weights) == ("keyvid-512", "trained")
    assert bundle.conditioning.layout == "released"
    assert bundle.graph("generator").inputs["audio"].shape[2] == 12  # no class token
    assert {name: spec.sha256 for name, spec in bundle.sources.items()} == {
        name: sha256_of(path) for name, path in released.items()
    }
    generator, imagebind = bundle.sources["generator"], bundle.sources["imagebind"]
    assert (generator.repository, generator.revision) == ("RyanWW/KeyVID", REVISION)
    assert generator.path == "KeyVID/keyframe_generation/generator_checkpoint.ckpt"
    assert (imagebind.repository, imagebind.revision, imagebind.path) == (None, None, None)
    assert bundle.licences == LICENCES
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "home"}
    again = Source.open(published, str(out))  # what is made of it says the same
    assert (again.describe(["localizer"]), again.licences(["localizer"])) == (
        bundle.sources,
        {"localizer": LICENCES["localizer"]},
    )


def test_a_wrong_download_leaves_no_bundle(tmp_path, capsys, published_preset, published_hub):
    path = "KeyVID/interpolation/epoch=3669-step=58720.ckpt"
    published_hub.stated[path] = 64 * "a"
    code, stdout, stderr = run(
        capsys, "--preset", "keyvid-512", "--from-hub", "--stage", "interpolator",
        "--out", tmp_path / "bundle",
    )  # fmt: skip
    assert (code, stdout) == (2, "")
    assert "the Hub lists aaaaaaaaaaaa" in stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_without_a_network_it_is_one_line(tmp_path, capsys, monkeypatch, published_preset, hub):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    code, stdout, stderr = run(
        capsys, "--preset", "keyvid-512", "--from-hub", "--out", tmp_path / "bundle"
    )
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "cannot be downloaded from the Hub" in stderr
    assert "run the same command again" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("damage", ["cut off", "of another preset"])
def test_a_wrong_checkpoint_leaves_no_bundle(tmp_path, capsys, published_preset, released, damage):
    path = tmp_path / "interpolator.ckpt"
    content = released["generator"].read_bytes()
    path.write_bytes(content[:1000] if damage == "cut off" else content)
    code, stdout, stderr = run(
        capsys, "--preset", "keyvid-512", "--interpolator", path, "--stage", "interpolator",
        "--out", tmp_path / "bundle",
    )  # fmt: skip
    assert (code, stdout) == (2, "")
    licences, line = stderr.splitlines()
    assert licences.startswith("licences: ")
    assert line.startswith(f"keyvid-export: {path}: ")
    assert list(tmp_path.iterdir()) == [path]
