"""What the wheel holds: a package that is not listed imports in an editable install only."""

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def test_every_package_folder_is_listed() -> None:
    sources = ("keyvid_ref", "export", "engines", "runtime")
    folders = {path.parent for name in sources for path in (ROOT / name).glob("**/__init__.py")}
    listed = {ROOT / SETUPTOOLS["package-dir"][name] for name in SETUPTOOLS["packages"]}
    assert folders == listed


def test_the_packaged_bundle_is_package_data() -> None:
    (pattern,) = SETUPTOOLS["package-data"]["keyvid.runtime"]
    files = {path.relative_to(ROOT / "runtime") for path in (ROOT / "runtime").glob(pattern)}
    bundle = ROOT / "runtime" / "bundles" / "tiny"
    assert {path.relative_to(ROOT / "runtime") for path in bundle.iterdir()} <= files
    assert sum(path.stat().st_size for path in bundle.iterdir()) <= 40e6


@pytest.mark.parametrize("command", PROJECT["project"]["scripts"])
def test_commands_exist(command: str) -> None:
    module, function = PROJECT["project"]["scripts"][command].split(":")
    assert callable(getattr(importlib.import_module(module), function))
