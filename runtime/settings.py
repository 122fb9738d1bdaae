"""Sampling settings that a caller may change, and what is allowed for each."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from numbers import Integral

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.specs import SamplingDefaults
from keyvid.errors import SettingsError
from keyvid.runtime.schedule import NUM_TRAIN_STEPS, SOLVERS

TEMPORAL_MODES = ("windows", "full")
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Settings:
    """What to change; None takes the bundle's default.

    Attributes:
        steps: network calls per U-Net, 1..1000.
        eta: 0..1, noise of the "ddim" solver; "dpm" draws none.
        solver: "ddim" or "dpm" (DPM-Solver++(2M)).
        guidance_image, guidance_text: scales of both U-Nets, any finite number.
        guidance_audio, guidance_audio_interpolator: audio scale of each U-Net.
        guidance_rescale: 0 (off)..1, how far the spread is pulled back.
        temporal: "windows" or "full", temporal attention of the interpolator.
        cfg_batch: most guidance branches per network call, None for what the memory allows.
    """

    steps: int | None = None
    eta: float | None = None
    solver: str | None = None
    guidance_image: float | None = None
    guidance_text: float | None = None
    guidance_audio: float | None = None
    guidance_audio_interpolator: float | None = None
    guidance_rescale: float | None = None
    temporal: str | None = None
    cfg_batch: int | None = None


def resolve(settings: Settings, bundle: Bundle) -> SamplingDefaults:
    """`settings` with the defaults of `bundle` filled in, checked.

    Raises:
        SettingsError: names the setting, its value and the valid ones.
    """
    changes = {name: value for name, value in asdict(settings).items() if value is not None}
    cfg_batch = changes.pop("cfg_batch", None)
    if cfg_batch is not None:
        sizes = sorted(set(bundle.branches("generator")) & set(bundle.branches("interpolator")))
        _check_choice("cfg-batch", cfg_batch, sizes)

    resolved = replace(bundle.sampling, **changes)
    _check_choice("solver", resolved.solver, SOLVERS)
    _check_choice("temporal", resolved.temporal, TEMPORAL_MODES)
    if not isinstance(resolved.steps, Integral) or not 1 <= resolved.steps <= NUM_TRAIN_STEPS:
        raise SettingsError(f"steps {resolved.steps}: want a whole number, 1 to {NUM_TRAIN_STEPS}")
    for name in ("eta", "guidance_rescale"):
        value = getattr(resolved, name)
        if not 0 <= value <= 1:
            raise SettingsError(f"{_option(name)} {value}: want a number from 0 to 1")
    for name, value in asdict(resolved).items():
        if name.startswith("guidance") and not math.isfinite(value):
            raise SettingsError(f"{_option(name)} {value}: want a finite number")
    return resolved


def check_seed(seed: int) -> int:
    """`seed`, if it is one."""
    if not isinstance(seed, Integral) or not 0 <= seed <= MAX_SEED:
        raise SettingsError(f"seed {seed}: want a whole number, 0 to {MAX_SEED}")
    return int(seed)


def _check_choice(name: str, value: object, valid: Collection[object]) -> None:
    if value not in valid:
        raise SettingsError(f"{name} {value}: want one of {', '.join(map(str, valid))}")


def _option(name: str) -> str:
    return name.replace("_", "-")
