"""What the wheel holds, and that what it promises is there."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from setuptools import find_packages

from keyvid.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
PYPROJECT = str(ROOT / "pyproject.toml")
PROJECT = tomllib.loads(Path(PYPROJECT).read_text())
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


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_a_wheel_of_a_checkout_without_links_is_whole(tmp_path: Path) -> None:
    """As Windows and some archives have it: the links at the root are small files there."""
    clone, unpacked = tmp_path / "clone", tmp_path / "unpacked"
    plain = ["-c", "core.symlinks=false"]
    run(["git", "clone", "--quiet", "--depth=1", *plain, ROOT.as_uri(), str(clone)])
    assert not any(path.is_symlink() for path in clone.rglob("*"))
    build = ["--wheel", "--no-build-isolation", "--python", sys.executable, "--quiet"]
    run([sys.executable, "-m", "uv", "build", *build, "--out-dir", str(tmp_path), str(clone)])
    (wheel,) = tmp_path.glob("*.whl")
    ZipFile(wheel).extractall(unpacked)

    tracked = run(["git", "-C", str(clone), "ls-files", *ROOMS]).splitlines()
    assert len(tracked) > 150
    assert not [name for name in tracked if not (unpacked / name).is_file()]
    doctor = (
        "import keyvid; print(keyvid.__file__); from keyvid.__main__ import main; main(['doctor'])"
    )
    told = run([sys.executable, "-c", doctor], cwd=tmp_path, env={"PYTHONPATH": str(unpacked)})
    assert told.startswith(str(unpacked))
    assert "openvino" in told


@pytest.mark.slow  # it asks the package index
@pytest.mark.parametrize("extra", ["", "cpu"])
def test_all_that_is_needed_has_wheels_for_64_bit_arm(extra: str) -> None:
    """A Raspberry Pi 5, a Jetson, a Graviton; glibc 2.35 is what OpenVINO's wheels ask for."""
    where = ["--python-platform", "aarch64-manylinux_2_35", "--python-version", "3.11"]
    wanted = ["--only-binary", ":all:", *(["--extra", extra] if extra else [])]
    found = run([sys.executable, "-m", "uv", "pip", "compile", "-q", *where, *wanted, PYPROJECT])
    assert "numpy==" in found
    assert ("openvino==" in found) == (extra == "cpu")


def run(command: list[str], **how: Any) -> str:
    """What a command prints; it has to work."""
    env = {**os.environ, **how.pop("env", {})}
    done = subprocess.run(command, capture_output=True, text=True, env=env, **how)
    assert done.returncode == 0, done.stderr
    return done.stdout
