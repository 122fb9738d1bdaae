"""Sampling: how a clip is drawn from noise, what may be chosen of it, and what is allowed.

The reference's presets, a bundle's manifest, `Settings`, the options of the command line and
`NAME=VALUE` texts all follow the fields of `UNetSampling` and `Sampling`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_type_hints

from keyvid.errors import SettingsError

Solver = Literal["ddim", "dpm"]
Temporal = Literal["windows", "full"]
Layout = Literal["paper", "released"]

UNETS = ("generator", "interpolator")
NUM_TRAIN_STEPS = 1000


def _setting(default: Any, text: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field with the words of its option and its range, both ends included."""
    return field(default=default, metadata={"help": text, "range": (low, high)})


@dataclass(frozen=True)
class UNetSampling:
    """How one U-Net samples; the defaults are those of the released inference script.

    Attributes:
        steps: network calls.
        solver: "ddim" or "dpm" (DPM-Solver++(2M)).
        eta: noise of the "ddim" solver; "dpm" draws none.
        guidance_image, guidance_text, guidance_audio: scales of guidance.
        guidance_rescale: how far the spread is pulled back, 0 is off.
    """

    steps: int = _setting(90, "Denoising steps", 1, NUM_TRAIN_STEPS)
    solver: Solver = _setting("ddim", "ddim or dpm")
    eta: float = _setting(1.0, "Noise of the ddim solver, 0 to 1", 0, 1)
    guidance_image: float = _setting(2.0, "Scale of the picture")
    guidance_text: float = _setting(7.5, "Scale of the prompt")
    guidance_audio: float = _setting(7.5, "Scale of the sound")
    guidance_rescale: float = _setting(0.7, "Keeps contrast down, 0 to 1", 0, 1)

    @property
    def scales(self) -> tuple[float, float, float]:
        """Guidance scales of image, text and audio."""
        return self.guidance_image, self.guidance_text, self.guidance_audio


@dataclass(frozen=True)
class Sampling:
    """How both U-Nets sample.

    Attributes:
        temporal: temporal attention of the interpolator; "windows" is the paper's, the released
            script has none.
    """

    generator: UNetSampling = UNetSampling()
    interpolator: UNetSampling = UNetSampling(guidance_audio=9.0)
    temporal: Temporal = _setting("windows", "Attention over time: windows or full")

    def of(self, unet: str) -> UNetSampling:
        """That of one of `UNETS`."""
        return {"generator": self.generator, "interpolator": self.interpolator}[unet]

    def without_prompt(self) -> "Sampling":
        """The same where there is no prompt: the branch with text is the branch without."""
        generator, interpolator = (
            replace(unet, guidance_text=unet.guidance_image)
            for unet in (self.generator, self.interpolator)
        )
        return replace(self, generator=generator, interpolator=interpolator)


@dataclass(frozen=True)
class UNetSettings:
    """What to change of a `UNetSampling`; None leaves it."""

    steps: int | None = None
    solver: Solver | None = None
    eta: float | None = None
    guidance_image: float | None = None
    guidance_text: float | None = None
    guidance_audio: float | None = None
    guidance_rescale: float | None = None


@dataclass(frozen=True)
class Settings(UNetSettings):
    """What to change of a bundle's sampling, in both U-Nets; None leaves it.

    Attributes:
        interpolator: what to change in the interpolator alone.
        temporal: temporal attention of the interpolator.
        cfg_batch: most guidance branches per network call, None for what the memory allows.
    """

    interpolator: UNetSettings = UNetSettings()
    temporal: Temporal | None = None
    cfg_batch: int | None = None


@dataclass(frozen=True)
class Option:
    """A setting by the name that a caller uses.

    Attributes:
        name: such as "steps", "interpolator_steps" or "temporal".
        kind: int, float or str.
        choices: the valid texts of a str.
        help: what it is.
    """

    name: str
    kind: type
    choices: tuple[str, ...]
    help: str


def options() -> Iterator[Option]:
    """All that can be set, but for `cfg_batch`."""
    for prefix, kind, where in (
        ("", UNetSampling, ""),
        ("interpolator_", UNetSampling, ", of the interpolator alone"),
        ("", Sampling, ""),
    ):
        types = get_type_hints(kind)
        for setting in fields(kind):
            if setting.metadata:
                choices = get_args(types[setting.name])
                value_type = str if choices else types[setting.name]
                text = setting.metadata["help"] + where
                yield Option(prefix + setting.name, value_type, choices, text)


def settings_from(values: dict[str, Any], cfg_batch: int | None = None) -> Settings:
    """`Settings` of values by the names of `options`; None or a missing one leaves it."""
    prefix = "interpolator_"
    alone = {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
    both = {k: v for k, v in values.items() if not k.startswith(prefix)}
    return Settings(**both, interpolator=UNetSettings(**alone), cfg_batch=cfg_batch)


def parse_settings(assignments: tuple[str, ...] | list[str]) -> Settings:
    """`Settings` from texts like "steps=25".

    Raises:
        SettingsError: says which names there are, or what the value should be.
    """
    valid = {option.name: option.kind for option in options()} | {"cfg_batch": int}
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in valid:
            raise SettingsError(
                f"{assignment}: want NAME=VALUE with NAME one of {', '.join(valid)}"
            )
        try:
            values[name] = valid[name](text.strip())
        except ValueError:
            wanted = {int: "a whole number", float: "a number"}[valid[name]]
            raise SettingsError(f"{assignment}: want {wanted} for {name}") from None
    return settings_from(values, values.pop("cfg_batch", None))


def resolve(settings: Settings, sampling: Sampling) -> Sampling:
    """`sampling` with the changes of `settings`, checked.

    Raises:
        SettingsError: names the setting, its value and the valid ones.
    """
    both = _given(settings)
    changed = replace(
        sampling,
        generator=replace(sampling.generator, **both),
        interpolator=replace(sampling.interpolator, **{**both, **_given(settings.interpolator)}),
        temporal=sampling.temporal if settings.temporal is None else settings.temporal,
    )
    for part, prefix in (
        (changed.generator, ""),
        (
            changed.interpolator,
            "" if changed.interpolator == changed.generator else "interpolator-",
        ),
        (changed, ""),
    ):
        _check(part, prefix)
    return changed


def _given(settings: UNetSettings) -> dict[str, Any]:
    values = {name.name: getattr(settings, name.name) for name in fields(UNetSettings)}
    return {name: value for name, value in values.items() if value is not None}


def _check(sampling: UNetSampling | Sampling, prefix: str) -> None:
    types = get_type_hints(type(sampling))
    for setting in fields(sampling):
        if not setting.metadata:
            continue
        value, kind = getattr(sampling, setting.name), types[setting.name]
        option = prefix + setting.name.replace("_", "-")
        low, high = setting.metadata["range"]
        if choices := get_args(kind):
            if value not in choices:
                raise SettingsError(f"{option} {value}: want one of {', '.join(choices)}")
        elif kind is int:
            if not isinstance(value, Integral) or not low <= value <= high:
                raise SettingsError(f"{option} {value}: want a whole number, {low} to {high}")
        elif not isinstance(value, Real) or not math.isfinite(value) or not low <= value <= high:
            wanted = f"a number from {low} to {high}" if math.isfinite(low) else "a finite number"
            raise SettingsError(f"{option} {value}: want {wanted}")
