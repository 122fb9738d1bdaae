"""keyvid-cache shows and removes what is kept."""

from importlib.metadata import version
from pathlib import Path

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.cache import Cache, key_of, plan_folder
from keyvid.engines.processor import fingerprint
from keyvid.engines.tensorrt.cache_cli import main
from tests.engines.rtx import needs_rtx

PLAN = {"kind": "TensorRT plan", "file": "vae.onnx", "version": "11.1", "gpu": "NVIDIA Test"}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "plans")

    def make(path: Path, lock: int) -> dict[str, float]:
        path.write_bytes(b"x" * 2_500_000)
        return {"seconds": 81.6}

    cache.get_or_make(PLAN, make)
    cache.put({"kind": "kernel timings"}, b"timings")
    return cache


def test_list(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--folder", str(cache.folder)]) == 0
    output = capsys.readouterr()
    rows = {line.split("  ")[0]: line for line in output.out.splitlines()}
    assert len(rows) == 2
    assert (
        "2.5 MB  vae.onnx  TensorRT plan 11.1, NVIDIA Test, built in 82 s"
        in rows[key_of(PLAN)[:12]]
    )
    assert output.err == f"2 in {cache.folder}, 2.5 MB\n"


def test_list_names_what_is_damaged(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    (cache.folder / key_of(PLAN) / "plan").write_bytes(b"")
    main(["list", "--folder", str(cache.folder)])
    assert f"{key_of(PLAN)[:12]}  damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"version": "2020.1.0-1-a"}, f", stale: OpenVINO {version('openvino')} is installed"),
        ({"processor": "another"}, ", stale: made for another processor"),
    ],
)
def test_list_names_graphs_that_nobody_takes_any_more(
    changes: dict[str, str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"version": f"{version('openvino')}-1-a", "processor": fingerprint()}
    made = {"kind": "OpenVINO model", "file": "vae.onnx", **here, **changes}
    Cache(tmp_path / "graphs").put(made, b"compiled")
    main(["list", "--folder", str(tmp_path / "graphs")])
    line = capsys.readouterr().out.rstrip()
    assert line.endswith(f"vae.onnx  OpenVINO model {made['version']}{why}")


def test_clear(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clear", "--folder", str(cache.folder)]) == 0
    assert capsys.readouterr().err == f"2 removed from {cache.folder}\n"
    assert list(cache.entries()) == []


@pytest.mark.parametrize("command", ["list", "clear"])
def test_the_usual_folder_is_not_made_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main([command]) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_others(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    cache.folder.chmod(0o755)
    assert main(["clear", "--folder", str(cache.folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("keyvid-cache: ")
    assert "want drwx------" in error
    assert len(list(cache.folder.iterdir())) == 3


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """The cache that commands use where none is named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Cache(plan_folder())


@needs_rtx
def test_build_without_a_gpu(
    own_cache: Cache, affine_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(affine_bundle.path)
    assert main(["build", folder, "--target", "sm86,sm89", "--stage", "affine"]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines()[1].startswith("affine.onnx ")
    assert output.err.startswith("affine.onnx: plan 1 of 1\n")
    main(["list"])
    assert "affine.onnx  TensorRT for RTX plan 1." in capsys.readouterr().out
    assert Bundle.load(folder).plans is None


@needs_rtx
def test_build_into_the_bundle(
    own_cache: Cache, affine_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(affine_bundle.path)
    command = ["build", folder, "--target", "portable", "--with-plans"]
    assert main(command) == 0
    (name,) = Bundle.load(folder).plans or {}
    assert name.startswith("affine.portable.")
    kinds = [entry.ingredients["kind"] for _, entry in own_cache.entries() if entry]
    assert kinds == ["trusted plan"]
    capsys.readouterr()
    assert main(command) == 0  # goes on after an interruption
    assert capsys.readouterr().err == "affine.onnx: plan 1 of 1\naffine.onnx: is in the bundle\n"
    own_cache.clear()
    assert main(["trust", folder]) == 0
    assert capsys.readouterr().out.startswith(f"{name}  TensorRT for RTX plan 1.")
    assert len(list(own_cache.entries())) == 1


@needs_rtx
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "sm90"], "no target 'sm90' of TensorRT for RTX; valid: portable, or one"),
        (["--max-memory", "much"], "'much' is no size; write it as 12G"),
        (["--target", "sm89", "--stage", "other"], "no stage 'other'"),
        (["--engine", "cuda"], "unknown engine 'cuda'; valid: tensorrt, tensorrt-rtx, tensorrt-s"),
        (["--engine", "tensorrt", "--target", "sm89"], "--target: tensorrt builds on the GPU that"),
        (["--engine", "tensorrt", "--with-plans"], "--with-plans: tensorrt builds on the GPU that"),
    ],
)
def test_build_that_is_not_possible(
    own_cache: Cache,
    affine_bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    assert main(["build", str(affine_bundle.path), *options]) == 2
    assert said in capsys.readouterr().err


def test_trust_in_a_bundle_without_plans(
    affine_bundle: Bundle, capsys: pytest.CaptureFixture[str], own_cache: Cache
) -> None:
    assert main(["trust", str(affine_bundle.path)]) == 2
    assert "holds no plans, nothing has to be trusted" in capsys.readouterr().err


@needs_rtx
def test_no_plans_in_the_installation(own_cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "tiny", "--target", "sm89", "--with-plans"]) == 2
    assert "tiny is part of the installation" in capsys.readouterr().err
