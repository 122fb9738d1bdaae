"""Seconds that a worker takes for the parts of a clip: measured, or computed from FLOP."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keyvid.errors import SettingsError

_SHARED = ("localizer", "image_encoder", "text_encoder", "vae_encoder", "audio_encoder")


@dataclass(frozen=True)
class Costs:
    """Seconds of a worker.

    Attributes:
        name: of the machine and the model.
        source: how the numbers came about; begins with "measured" or "computed".
        boot: from the start of a process until it opens networks.
        opening: of all networks, once in a process.
        encode: picture, prompt and sound of a clip.
        generate, interpolate: of one segment, all steps.
        decode: of one segment.
        steps: of the generator and the interpolator for one segment.
    """

    name: str
    source: str
    boot: float
    opening: float
    encode: float
    generate: float
    interpolate: float
    decode: float
    steps: tuple[int, int]

    @property
    def cold_start(self) -> float:
        """Until a new worker begins its first clip."""
        return self.boot + self.opening

    def clip(self, segments: float) -> float:
        """A clip of so many segments, by a worker whose networks are open."""
        return self.encode + segments * (self.generate + self.interpolate + self.decode)

    def slower(self, factor: float) -> "Costs":
        """The same work where everything but the start takes `factor` times as long."""
        parts = ("encode", "generate", "interpolate", "decode")
        return replace(self, **{part: factor * getattr(self, part) for part in parts})


def measured_costs(cold: Path, warm: Path, boot: float) -> Costs:
    """From the reports of a process's first clip and of a later one, both of one segment.

    Raises:
        SettingsError: a file is no such report.
    """
    first, later = _read_report(cold), _read_report(warm)
    for report, path in ((first, cold), (later, warm)):
        if len(report["keyframes"]) != 12:
            raise SettingsError(f"{path}: want the report of a clip of one segment")
    times, settings, engine = later["timings_s"], later["settings"], later["engine"]
    return Costs(
        name=f"{later['bundle']['name']} on {engine['name']}",
        source="measured",
        boot=boot,
        opening=sum(max(first["timings_s"][stage] - s, 0) for stage, s in times.items()),
        encode=sum(times[stage] for stage in _SHARED if stage in times),
        generate=times["generator"],
        interpolate=times["interpolator"],
        decode=times["vae_decoder"],
        steps=(settings["generator"]["steps"], settings["interpolator"]["steps"]),
    )


def computed_costs(
    name: str,
    flop: tuple[float, float],
    steps: tuple[int, int],
    rate: float,
    weights: float,
    disk: float,
) -> Costs:
    """From what the two U-Nets compute in a segment; encoders and decoder count as a tenth of it.

    Args:
        flop: of generator and interpolator.
        rate: FLOP/s that are reached.
        weights: bytes of a U-Net. disk: bytes per second at which they are read.
    """
    generate, interpolate = (part / rate for part in flop)
    return Costs(
        name=name,
        source=f"computed from {sum(flop) / 1e12:.0f} TFLOP at {rate / 1e12:g} TFLOP/s",
        boot=10.0,
        opening=3 * weights / disk,  # both U-Nets, and as much for the rest
        encode=0.02 * (generate + interpolate),
        generate=generate,
        interpolate=interpolate,
        decode=0.08 * (generate + interpolate),
        steps=steps,
    )


def _read_report(path: Path) -> Any:
    try:
        report = json.loads(path.read_bytes())
        _ = report["timings_s"], report["settings"], report["engine"], report["keyframes"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError(f"{path}: no report of keyvid-infer ({error!r:.60})") from error
    return report
