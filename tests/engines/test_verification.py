"""Each engine that works here is compared with what the reference gave, without torch."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keyvid.bundle.manifest import Bundle, write_manifest
from keyvid.engines import doctor
from keyvid.engines.engine import probe_engine
from keyvid.engines.spec import ENGINES
from keyvid.engines.verification import (
    NUM_POINTS,
    GraphReport,
    format_reports,
    known_input,
    make_check,
    verify_engine,
)
from keyvid.errors import BundleError

USABLE = [name for name in ENGINES if probe_engine(name).available]


@pytest.fixture
def with_check(affine_bundle: Bundle, affine: Any) -> Any:
    """`with_check(offset)`: the bundle with an outcome that is wrong by `offset`."""

    def add(offset: float = 0.0) -> Bundle:
        inputs = affine.draw(5)
        inputs |= {name: known_input(name, inputs[name].shape) for name in ("x", "bias")}
        check = make_check(inputs, {"y": affine.expected(**inputs) + offset})
        (graph,) = affine_bundle.stages["affine"].graphs
        stage = replace(
            affine_bundle.stages["affine"], precision="fp32", graphs=(replace(graph, check=check),)
        )
        write_manifest(affine_bundle.path, replace(affine_bundle, stages={"affine": stage}))
        return Bundle.load(affine_bundle.path)

    return add


@pytest.mark.parametrize("engine", USABLE)
def test_a_right_engine_passes(with_check: Any, engine: str) -> None:
    lines: list[str] = []
    (report,) = verify_engine(with_check(), engine, lines.append)
    assert report.passed
    assert report.error is not None
    assert report.tolerance == (0.1 if "bf16" in engine else 1e-4)
    assert report.seconds > 0
    assert report.host_bytes is not None
    assert lines == ["affine.onnx"]


@pytest.mark.parametrize("engine", USABLE)
def test_a_wrong_one_does_not(with_check: Any, engine: str) -> None:
    (report,) = verify_engine(with_check(offset=2.0), engine)
    assert not report.passed
    assert "too far off" in format_reports([report])


def test_without_an_outcome_there_is_no_error(affine_bundle: Bundle) -> None:
    (report,) = verify_engine(affine_bundle, "onnxruntime")
    assert report.error is None
    assert report.passed
    assert "no reference" in format_reports([report])


def test_nan_anywhere_is_no_match() -> None:
    assert not GraphReport("g.onnx", float("nan"), 1e-2, 1.0, None, None).passed


def test_points_estimate_the_error_of_all() -> None:
    rng = np.random.default_rng(0)
    want = rng.standard_normal((4, 8, 12, 16, 24))
    noise = 1e-3 * rng.standard_normal(want.shape)
    right, wrong = (make_check({}, {"y": y}).outputs["y"] for y in (want, want + noise))
    points = [np.frombuffer(base64.b64decode(text), "<f4") for text in (right, wrong)]
    assert len(np.unique(points[0])) == NUM_POINTS  # no place twice
    error = np.linalg.norm(points[1] - points[0]) / np.linalg.norm(points[0])
    assert error == pytest.approx(1e-3, rel=0.2)


def test_damaged_outcomes_are_named(with_check: Any) -> None:
    bundle = with_check()
    text = (bundle.path / "bundle.json").read_text()
    check = bundle.stages["affine"].graphs[0].check
    assert check is not None
    (bundle.path / "bundle.json").write_text(text.replace(check.integers["row"], "AAAA"))
    with pytest.raises(BundleError, match=r"check of affine.onnx: .*; export it again"):
        list(verify_engine(Bundle.load(bundle.path), "onnxruntime"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    return tmp_path / "home"


def test_the_command(with_check: Any, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = with_check().path
    args = ["--verify", "--bundle", str(folder), "--engine", "onnxruntime"]
    assert doctor.main(args) == 0
    output = capsys.readouterr()
    header, row = output.out.splitlines()
    assert header.split() == ["graph", "error", "allowed", "call", "host", "GPU"]
    assert row.split()[0] == "affine.onnx"
    (written,) = (home / ".cache/keyvid/engines").iterdir()
    record = json.loads(written.read_text())
    assert record["engine"]["name"] == "onnxruntime"
    assert record["graphs"][0]["error"] < 1e-4
    assert record["bundle"] == str(folder)

    assert doctor.main([*args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["graphs"][0]["graph"] == "affine.onnx"
    assert len(list(written.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bundle", "nowhere"], "nowhere: no such folder"),
        (["--engine", "warp"], "unknown engine 'warp'"),
    ],
)
def test_mistakes_are_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert doctor.main(["--verify", *args]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_the_command_fails_where_an_engine_does(
    with_check: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_check(offset=2.0).path
    assert doctor.main(["--verify", "--bundle", str(folder), "--engine", "onnxruntime"]) == 2
    assert "affine.onnx: error against the reference" in capsys.readouterr().err


def test_it_needs_no_torch() -> None:
    code = "import sys, keyvid.engines.doctor; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
