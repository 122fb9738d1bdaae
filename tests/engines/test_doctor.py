"""keyvid-doctor says what can be run here, and why not the rest."""

import json

import pytest
from click.testing import CliRunner

from keyvid.bundle.manifest import Bundle
from keyvid.engines import doctor
from keyvid.engines.engine import EngineStatus
from keyvid.engines.spec import ENGINES
from keyvid.errors import EngineError


def test_json_holds_all_findings() -> None:
    result = CliRunner().invoke(doctor._doctor, ["--json"])
    assert result.exit_code == 0
    findings = json.loads(result.stdout)
    assert [engine["name"] for engine in findings["engines"]] == list(ENGINES)
    available = [engine["name"] for engine in findings["engines"] if engine["available"]]
    assert findings["auto"]["name"] == available[0]
    assert {"python", "keyvid", "numpy", "onnxruntime", "openvino"} <= set(findings["versions"])
    assert findings["device"]["cores"] >= 1
    assert findings["device"]["memory_bytes"] > 2**28
    assert [bundle["name"] for bundle in findings["bundles"]] == ["tiny"]


def test_table_has_a_line_for_each_engine() -> None:
    result = CliRunner().invoke(doctor._doctor)
    assert result.exit_code == 0
    starts = [line.split()[0] for line in result.stdout.splitlines()]
    for name in ("versions", "device", "engines", *ENGINES, "auto", "bundles", "tiny"):
        assert name in starts


def test_cards_are_named_where_none_is() -> None:
    table = CliRunner().invoke(doctor._doctor).stdout.splitlines()
    (rtx,) = (line for line in table if line.startswith("  tensorrt-rtx  ") and "8.9" in line)
    assert "not 9.0 (H100, H200)" in rtx


def test_reasons_and_exit_code_without_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def choose() -> None:
        raise EngineError("no engine can be used")

    monkeypatch.setattr(doctor, "choose_engine", choose)
    monkeypatch.setattr(doctor, "probe_engine", lambda name: EngineStatus(name, False, "why not"))
    result = CliRunner().invoke(doctor._doctor)
    assert result.exit_code == 2
    assert result.stdout.count("not available: why not") == len(ENGINES)
    assert "none (no engine can be used)" in result.stdout


def test_state_of_a_bundle(affine_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGED", (str(affine_bundle.path),))
    (state,) = doctor.examine()["bundles"]
    assert state["available"]
    assert state["detail"].startswith("random weights, 1 stages, 2 files verified")
    (affine_bundle.path / "affine.onnx").unlink()
    (state,) = doctor.examine()["bundles"]
    assert not state["available"]
    assert "affine.onnx: missing from the bundle" in state["detail"]
