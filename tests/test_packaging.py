"""What the wheel holds, and that what it promises is there."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_packages

from keyvid.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = ("keyvid", "keyvid_ref")


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


def test_python_m_keyvid_knows_each_command() -> None:
    listed = {f"keyvid-{name}": f"{entry.module}:main" for name, entry in COMMANDS.items()}
    assert listed == PROJECT["project"]["scripts"]


IMPORT_TIME = """
import time
before = time.process_time()
import keyvid
print(time.process_time() - before)
"""


def test_the_import_takes_milliseconds() -> None:
    """Processor time, the least of five processes: the clock knows what else the machine does."""
    command = [sys.executable, "-c", IMPORT_TIME]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(5)]
    assert min(float(done.stdout) for done in runs) < 0.05
