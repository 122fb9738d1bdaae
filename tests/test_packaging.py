"""What the wheel holds, and that what it promises is there."""

import importlib
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("keyvid", "keyvid_ref", "export", "engines", "runtime")


def test_every_package_folder_is_found() -> None:
    """Of each folder with Python in it: one without `__init__.py` would be missing in the wheel."""
    found = find_packages(str(ROOT), **PROJECT["tool"]["setuptools"]["packages"]["find"])
    folders = {(ROOT / name.replace(".", "/")).resolve() for name in found}
    assert folders == {path.parent for name in ROOMS for path in (ROOT / name).glob("**/*.py")}


def test_the_packaged_bundle_is_package_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["keyvid"]
    house = ROOT / "keyvid"
    files = {path for pattern in patterns for path in house.glob(pattern)}
    bundle = set((house / "bundles" / "tiny").iterdir())
    assert bundle <= files
    assert sum(path.stat().st_size for path in bundle) <= 45e6


@pytest.mark.parametrize("command", PROJECT["project"]["scripts"])
def test_commands_exist(command: str) -> None:
    module, function = PROJECT["project"]["scripts"][command].split(":")
    assert callable(getattr(importlib.import_module(module), function))
