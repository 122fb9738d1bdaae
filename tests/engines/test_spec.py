"""Rows of engines: complete, and true of what the package says elsewhere."""

import re
import tomllib
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path

import pytest

from keyvid.bundle.specs import GraphMemory
from keyvid.engines.spec import DISTRIBUTIONS, ENGINES, EngineSpec, Footprint, installed_versions
from keyvid.engines.tensorrt.plan import SETTINGS

ROWS = list(ENGINES.values())
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def test_no_column_can_be_forgotten() -> None:
    for kind in (EngineSpec, Footprint):
        for field in fields(kind):
            assert field.default is field.default_factory is MISSING, field.name


@pytest.mark.parametrize("spec", ROWS, ids=ENGINES)
def test_a_row_is_true(spec: EngineSpec) -> None:
    backend = import_module(spec.module)
    assert callable(backend.probe)
    assert callable(backend.load)
    is_on_cpu = spec.device == "cpu"
    assert (spec.footprint is not None) == is_on_cpu, "--max-memory would be ignored"
    assert (spec.cards == "") == is_on_cpu
    wanted = {
        re.split(r"[^\w-]", requirement)[0]
        for requirement in PROJECT["optional-dependencies"][spec.extra]
    }
    assert spec.distributions[0] in wanted, "the extra does not install it"
    if spec.name in SETTINGS:
        assert SETTINGS[spec.name].library.extra == spec.extra


@pytest.mark.parametrize("column", ["name", "order", "order_of_large"])
def test_rows_differ(column: str) -> None:
    assert len({getattr(spec, column) for spec in ROWS}) == len(ROWS)


def test_plans_are_those_of_rows() -> None:
    module = "keyvid.engines.tensorrt.engine"
    assert set(SETTINGS) == {spec.name for spec in ROWS if spec.module == module}


def test_versions_are_of_what_is_installed() -> None:
    assert {"onnxruntime-gpu", "tensorrt-rtx-cu13"} <= set(DISTRIBUTIONS)
    openvino = installed_versions(["openvino"])
    assert re.match(r"20\d\d\.", openvino["openvino"] or "")
    assert ENGINES["openvino-bf16"].versions() == openvino
    assert installed_versions(["keyvid-nonesuch"]) == {"keyvid-nonesuch": None}


def test_what_engines_take() -> None:
    openvino, onnxruntime = (ENGINES[name].footprint for name in ("openvino", "onnxruntime"))
    assert openvino is not None
    assert onnxruntime is not None
    stored = GraphMemory(weights=1000, cast=0, values=100, scores=500)
    cast = GraphMemory(weights=1000, cast=1000, values=100, scores=500)
    assert openvino.bytes_of(stored, 10) == 45_000_000 + 200 * 10 + 1100 + 100
    assert openvino.bytes_of(cast, 10) == openvino.bytes_of(stored, 10) + 1000
    keeps_scores = 20_000_000 + 20 * 10 + 2100 + 6.5 * 600
    assert onnxruntime.bytes_of(stored, 10) == keeps_scores
