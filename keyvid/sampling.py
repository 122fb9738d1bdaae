"""Sampling: how a clip is denoised, with its settings and their valid ranges.

The reference's presets, a bundle's manifest, `Settings`, the options of the command line and
`NAME=VALUE` texts all derive from the fields of `UNetSampling` and `Sampling`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_type_hints

from keyvid.errors import SettingsError
from keyvid.options import Option

Solver = Literal["ddim", "dpm"]
Temporal = Literal["windows", "full"]
Layout = Literal["paper", "released"]
Quality = Literal["exact", "balanced", "fast"]

UNETS = ("generator", "interpolator")
NUM_TRAIN_STEPS = 1000
DEFAULT_QUALITY: Quality = "balanced"  # the sampling that a bundle states

_ALONE = "interpolator_"  # prefix of a setting that applies to the interpolator only


def _setting(default: Any, text: str, low: float = -math.inf, high: float = math.inf) -> Any:
    """A field with the help text of its option and its range, both ends included."""
    return field(default=default, metadata={"help": text, "range": (low, high)})


@dataclass(frozen=True)
class UNetSampling:
    """Sampling settings of one U-Net; the defaults are those of the released inference script.

    Attributes:
        steps: denoising steps.
        spacing: timesteps are near 1000 times (i / steps) ** spacing; 1 spaces them evenly, as the
            released script does, more than 1 puts more of them near the clip (timestep 0).
        solver: "ddim" or "dpm" (DPM-Solver++(2M)).
        eta: amount of noise that the "ddim" solver adds per step; "dpm" adds none.
        guidance_image, guidance_text, guidance_audio: guidance scales.
        guidance_rescale: how far the standard deviation is rescaled after guidance, 0 is off.
        guidance_from, guidance_until: range of guided timesteps, both included, from noise (999)
            towards the clip (0); in all others every scale is 1, which takes one branch.
    """

    steps: int = _setting(90, "Denoising steps", 1, NUM_TRAIN_STEPS)
    spacing: float = _setting(1.0, "1 spaces steps evenly; more puts them nearer the clip", 1, 4)
    solver: Solver = _setting("ddim", "Solver: " + " or ".join(get_args(Solver)))
    eta: float = _setting(1.0, "Noise that the ddim solver adds, 0 to 1", 0, 1)
    guidance_image: float = _setting(2.0, "Guidance scale of the picture")
    guidance_text: float = _setting(7.5, "Guidance scale of the prompt")
    guidance_audio: float = _setting(7.5, "Guidance scale of the sound")
    guidance_rescale: float = _setting(0.7, "Correct the contrast that guidance adds, 0 to 1", 0, 1)
    guidance_from: int = _setting(
        NUM_TRAIN_STEPS - 1, "First guided timestep; 999 is noise", 0, NUM_TRAIN_STEPS - 1
    )
    guidance_until: int = _setting(0, "Last guided timestep; 0 is the clip", 0, NUM_TRAIN_STEPS - 1)

    def scales(self, timestep: int) -> tuple[float, float, float]:
        """Guidance scales of image, text and audio at a timestep."""
        if self.guidance_until <= timestep <= self.guidance_from:
            return self.guidance_image, self.guidance_text, self.guidance_audio
        return 1.0, 1.0, 1.0


@dataclass(frozen=True)
class Sampling:
    """Sampling settings of both U-Nets.

    Attributes:
        temporal: temporal attention of the interpolator: "windows" as in the paper, or "full" as
            in the released script.
    """

    generator: UNetSampling = UNetSampling()
    interpolator: UNetSampling = UNetSampling(guidance_audio=9.0)
    temporal: Temporal = _setting("windows", "Temporal attention: windows or full")

    def of(self, unet: str) -> UNetSampling:
        """The settings of one of `UNETS`."""
        return {"generator": self.generator, "interpolator": self.interpolator}[unet]

    def without_prompt(self) -> "Sampling":
        """The settings for an empty prompt, where the branches with and without text are equal."""
        generator, interpolator = (
            replace(unet, guidance_text=unet.guidance_image)
            for unet in (self.generator, self.interpolator)
        )
        return replace(self, generator=generator, interpolator=interpolator)


@dataclass(frozen=True)
class UNetSettings:
    """Changes to a `UNetSampling`; None keeps a value."""

    steps: int | None = None
    spacing: float | None = None
    solver: Solver | None = None
    eta: float | None = None
    guidance_image: float | None = None
    guidance_text: float | None = None
    guidance_audio: float | None = None
    guidance_rescale: float | None = None
    guidance_from: int | None = None
    guidance_until: int | None = None


@dataclass(frozen=True)
class Changes(UNetSettings):
    """Changes to a `Sampling`, in both U-Nets; None keeps a value.

    Attributes:
        interpolator: changes to the interpolator only.
        temporal: temporal attention of the interpolator.
    """

    interpolator: UNetSettings = UNetSettings()
    temporal: Temporal | None = None


Qualities = Mapping[Quality, Changes]  # what each quality of a bundle changes in its sampling


@dataclass(frozen=True)
class Settings(Changes):
    """Changes to a bundle's sampling; None keeps a value.

    Attributes:
        quality: the preset that the other changes are applied to; None for `DEFAULT_QUALITY`.
        cfg_batch: most guidance branches per network call; None for as many as memory allows.
    """

    quality: Quality | None = None
    cfg_batch: int | None = None


def options() -> Iterator[Option]:
    """All sampling options."""
    yield Option("quality", str, get_args(Quality), "Quality preset; the options below change it")
    for prefix, kind, where in (
        ("", UNetSampling, " (both U-Nets)"),
        (_ALONE, UNetSampling, " (interpolator only)"),
        ("", Sampling, ""),
    ):
        types = get_type_hints(kind)
        for setting in fields(kind):
            if setting.metadata:
                choices = get_args(types[setting.name])
                value_type = str if choices else types[setting.name]
                text = setting.metadata["help"] + where
                yield Option(prefix + setting.name, value_type, choices, text)
    yield Option("cfg_batch", int, (), "Guidance branches per call", "as many as memory allows")


def settings_from(values: Mapping[str, Any]) -> Settings:
    """`Settings` from values by option name; None or a missing name keeps the bundle's value."""
    alone = {k.removeprefix(_ALONE): v for k, v in values.items() if k.startswith(_ALONE)}
    others = {k: v for k, v in values.items() if not k.startswith(_ALONE)}
    return Settings(**others, interpolator=UNetSettings(**alone))


def parse_settings(assignments: tuple[str, ...] | list[str]) -> Settings:
    """`Settings` from strings such as "steps=25".

    Raises:
        SettingsError: lists the valid names, or says what the value should be.
    """
    valid = {option.name: option for option in options()}
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name not in valid:
            raise SettingsError(
                f"{assignment}: want NAME=VALUE with NAME one of {', '.join(valid)}"
            )
        try:
            values[name] = valid[name].value_of(text)
        except ValueError as error:
            raise SettingsError(f"{assignment}: {error} for {name}") from None
    return settings_from(values)


def resolve(settings: Settings, sampling: Sampling, qualities: Qualities | None = None) -> Sampling:
    """`sampling` with the changes of `settings`, checked.

    Args:
        qualities: the other quality presets of the bundle.
    Raises:
        SettingsError: names the setting, its value and the valid ones.
    """
    known = {DEFAULT_QUALITY: Changes(), **(qualities or {})}
    quality = settings.quality or DEFAULT_QUALITY
    if quality not in known:
        raise SettingsError(f"quality {quality}: this bundle has {', '.join(known)}")
    changed = _changed(_changed(sampling, known[quality]), settings)
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


def _changed(sampling: Sampling, changes: Changes) -> Sampling:
    both = _given(changes)
    return replace(
        sampling,
        generator=replace(sampling.generator, **both),
        interpolator=replace(sampling.interpolator, **{**both, **_given(changes.interpolator)}),
        temporal=sampling.temporal if changes.temporal is None else changes.temporal,
    )


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
