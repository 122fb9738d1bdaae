"""The report says what went in, what was chosen and what it cost."""

import json
import platform
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import EngineChoice
from keyvid.runtime.clip import Clip
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.report import make_report, write_report
from keyvid.sampling import UNetSampling


def test_report(workplace: Path, clip: Clip) -> None:
    import onnxruntime

    pipeline = Pipeline(Bundle.load("hollow"), EngineChoice("onnxruntime", "asked for"))
    content = make_report(clip, pipeline, {"image": "picture.png"}, '{"receipt":1}')
    write_report(Path("a.json"), content)
    report = json.loads(Path("a.json").read_text())
    status = Path("/proc/self/status").read_text()
    peak = 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
    assert 0.9 * peak < report.pop("peak_memory_bytes") <= peak, "it may have grown since"
    assert report.pop("motion") == [round(float(score), 5) for score in clip.motion]
    assert report["bundle"].pop("licences") == pipeline.bundle.licences
    assert report["bundle"].pop("sources").keys() == pipeline.bundle.sources.keys()
    versions = report.pop("versions")
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__
    assert versions["onnxruntime"] == onnxruntime.__version__
    assert set(versions) == {"python", "keyvid", "numpy", "av", "onnxruntime"}
    assert report == {
        "inputs": {"image": "picture.png"},
        "prompt": "a bar",
        "seed": 7,
        "settings": {
            "generator": (one := asdict(UNetSampling())),
            "interpolator": one | {"guidance_audio": 9.0},
            "temporal": "windows",
        },
        "bundle": {
            "name": "hollow",
            "path": "hollow",
            "weights": "random",
            "files": {name: file.sha256 for name, file in pipeline.bundle.files.items()},
        },
        "cfg_batch": {"generator": 2, "interpolator": 1},
        "calls": {"generator.b2.onnx": 15, "interpolator.b1.windows.onnx": 4},
        "flop": None,
        "engine": {"name": "onnxruntime", "reason": "asked for"},
        "keyframes": [0, 3, 7, 12, 16, 20, 25, 29, 33, 38, 42, 46],
        "receipt": {"receipt": 1},
        "remarks": [],
        "timings_s": {"generator": 1.25, "interpolator": 2.5},
    }


PEAK = """
from keyvid.engines.memory import peak_bytes
print(peak_bytes())
"""


def test_peak_memory_is_not_that_of_who_started_the_process() -> None:
    """`ru_maxrss` is handed down: the child of a large process would seem large, too."""
    large = bytearray(300_000_000)
    large[::4096] = b"x" * len(large[::4096])
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 5e6 < int(done.stdout) < 200e6
