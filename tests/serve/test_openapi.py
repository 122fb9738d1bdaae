"""What the OpenAPI document says is so: Schemathesis looks for what is not."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from keyvid.serve.limits import Limits

SCHEMATHESIS = Path(sys.executable).with_name("st")
ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="pip install schemathesis")
def test_schemathesis_finds_nothing(live: Callable[..., str]) -> None:
    """In its deterministic cases: each field at its ends and beyond, each method of each path."""
    url = live(Limits(queue=10_000))
    command = [str(SCHEMATHESIS), "--config-file", "tests/serve/schemathesis.toml", "run"]
    command += ["--phases", "examples,coverage", f"{url}/openapi.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    said = done.stdout.decode(errors="replace")
    shutil.rmtree(ROOT / ".schemathesis", ignore_errors=True)
    assert done.returncode == 0, said[-4000:]
    assert "No issues found" in said
