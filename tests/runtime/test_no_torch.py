"""The runtime and the engines must work where torch is not installed."""

import subprocess
import sys

import pytest

BLOCK_TORCH = """
import sys

class Torchless:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "keyvid_ref", "scipy"):
            raise ImportError(f"{name} must not be imported here")

sys.meta_path.insert(0, Torchless())
"""

IMPORT_ALL = """
import importlib, pkgutil
import keyvid.bundle, keyvid.engines, keyvid.runtime

for package in (keyvid.bundle, keyvid.engines, keyvid.runtime):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if module.name != "keyvid.runtime.jobs.ray_workers":  # which says what to install
            importlib.import_module(module.name)
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK_TORCH + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_block_works():
    assert "must not be imported" in run("import torch").stderr


def test_no_module_imports_torch():
    done = run(IMPORT_ALL)
    assert done.returncode == 0, done.stderr


def test_public_names_come_when_asked_for():
    done = run(
        "import keyvid\n"
        "assert 'numpy' not in sys.modules, 'importing the package must stay cheap'\n"
        "for name in keyvid.__all__: getattr(keyvid, name)\n"
        "try: keyvid.nothing\n"
        "except AttributeError: pass\n"
        "else: raise SystemExit('no AttributeError')\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_clip_is_made_without_torch():
    done = run(
        "import numpy as np\n"
        "from keyvid import Pipeline, Settings\n"
        "image, sound = np.zeros((96, 160, 3), np.uint8), np.ones(32_000, np.float32)\n"
        "pipeline = Pipeline.load('tiny', threads=1)\n"
        "clip = pipeline(image, (sound, 16_000), settings=Settings(steps=1))\n"
        "assert clip.frames.any()\n"
    )
    assert done.returncode == 0, done.stderr
