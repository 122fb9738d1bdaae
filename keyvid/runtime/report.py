"""How a clip came about, as JSON."""

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keyvid.bundle.manifest import Bundle
from keyvid.engines.memory import peak_bytes
from keyvid.engines.spec import installed_versions
from keyvid.runtime.clip import Clip
from keyvid.runtime.media.outputs import write_atomic
from keyvid.runtime.pipeline import Pipeline


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON, whole or not at all.

    Raises:
        MediaError: the file cannot be written there.
    """
    text = json.dumps(report, indent=2, allow_nan=False)
    write_atomic(path, text.encode() + b"\n")


def make_report(
    clip: Clip,
    pipeline: Pipeline,
    asked: dict[str, Any],
    receipt: str | None = None,
    *,
    tell_path: bool = True,
) -> dict[str, Any]:
    """What went in, what was chosen, what it cost.

    Args:
        asked: what the caller asked for, as JSON values.
        receipt: that of the clip's file, None for none.
        tell_path: whether it says where the bundle lies.
    Returns:
        JSON values; times in seconds, memory in bytes.
    """
    bundle = pipeline.bundle
    return {
        "inputs": asked,
        "prompt": clip.prompt,
        "seed": clip.seed,
        "settings": asdict(clip.settings),
        "remarks": list(clip.remarks),
        "bundle": {
            "name": bundle.name,
            **({"path": str(bundle.path)} if tell_path else {}),
            "weights": bundle.weights,
            "files": {name: file.sha256 for name, file in bundle.files.items()},
            "sources": {name: asdict(file) for name, file in (bundle.sources or {}).items()},
            "licences": bundle.licences,
        },
        "cfg_batch": clip.batches,
        "calls": clip.calls,
        "flop": count_flop(clip, bundle),
        "engine": {"name": pipeline.engine.name, "reason": pipeline.engine.reason},
        "keyframes": clip.keyframes.tolist(),
        "motion": [round(float(score), 5) for score in clip.motion],
        "timings_s": {stage: round(seconds, 4) for stage, seconds in clip.timings.items()},
        "peak_memory_bytes": peak_bytes(),
        "versions": {
            "python": platform.python_version(),
            **installed_versions(("keyvid", "numpy", "av")),
            **pipeline.engine.spec.versions(),
        },
        "receipt": None if receipt is None else json.loads(receipt),
    }


def count_flop(clip: Clip, bundle: Bundle) -> int | None:
    """Floating point operations of all calls, None where the bundle does not state them."""
    known = {graph.file: graph.flops for stage in bundle.stages.values() for graph in stage.graphs}
    total = 0
    for file, calls in clip.calls.items():
        flops = known.get(file)
        if flops is None:
            return None
        total += calls * flops
    return total
