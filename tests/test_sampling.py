"""Settings: one set of names, ranges and words for all who offer them."""

from dataclasses import fields, replace

import pytest

from keyvid.errors import SettingsError
from keyvid.sampling import (
    Changes,
    Sampling,
    Settings,
    UNetSampling,
    UNetSettings,
    options,
    parse_settings,
    resolve,
    settings_from,
)


def test_settings_are_the_fields_of_sampling():
    assert [f.name for f in fields(UNetSettings)] == [f.name for f in fields(UNetSampling)]
    names = [option.name for option in options()]
    assert len(names) == len(set(names))
    assert {"quality", "steps", "interpolator_steps", "temporal"} < set(names)
    assert settings_from(dict.fromkeys(names)) == Settings()


def test_what_is_not_set_is_the_bundles():
    assert resolve(Settings(), Sampling()) == Sampling()


def test_a_setting_is_for_both_unets_or_for_the_interpolator_alone():
    changed = resolve(
        Settings(steps=9, eta=0.0, temporal="full", interpolator=UNetSettings(steps=3)), Sampling()
    )
    assert changed.generator == replace(UNetSampling(), steps=9, eta=0.0)
    assert changed.interpolator == replace(Sampling().interpolator, steps=3, eta=0.0)
    assert changed.temporal == "full"


def test_settings_begin_from_a_quality():
    fast = Changes(steps=8, solver="dpm", interpolator=UNetSettings(steps=3), temporal="full")
    qualities = {"fast": fast}
    assert resolve(Settings(quality="balanced"), Sampling(), qualities) == Sampling()
    got = resolve(Settings(quality="fast"), Sampling(), qualities)
    assert got.generator == replace(UNetSampling(), steps=8, solver="dpm")
    assert got.interpolator == replace(Sampling().interpolator, steps=3, solver="dpm")
    assert got.temporal == "full"
    overridden = resolve(
        Settings(quality="fast", eta=0.5, temporal="windows"), Sampling(), qualities
    )
    assert overridden == replace(
        got,
        generator=replace(got.generator, eta=0.5),
        interpolator=replace(got.interpolator, eta=0.5),
        temporal="windows",
    )
    with pytest.raises(SettingsError, match=r"^quality exact: this bundle has balanced, fast$"):
        resolve(Settings(quality="exact"), Sampling(), qualities)


def test_scales_are_one_outside_the_guided_timesteps():
    guided = UNetSampling(
        guidance_image=2, guidance_text=3, guidance_audio=4, guidance_from=800, guidance_until=300
    )
    assert [guided.scales(t) for t in (300, 800)] == [(2, 3, 4)] * 2
    assert [guided.scales(t) for t in (0, 299, 801, 999)] == [(1, 1, 1)] * 4
    assert UNetSampling().scales(0) == UNetSampling().scales(999) == (2.0, 7.5, 7.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(guidance_until=1000), "guidance-until 1000: want a whole number, 0 to 999"),
        (Settings(quality="good"), "quality good: this bundle has balanced"),  # type: ignore[arg-type]
        (Settings(steps=0), "steps 0: want a whole number, 1 to 1000"),
        (Settings(steps=1001), "steps 1001: want a whole number, 1 to 1000"),
        (Settings(steps=2.5), "steps 2.5: want a whole number, 1 to 1000"),  # type: ignore[arg-type]
        (Settings(eta=-0.1), "eta -0.1: want a number from 0 to 1"),
        (Settings(eta=float("nan")), "eta nan: want a number from 0 to 1"),
        (Settings(guidance_rescale=1.5), "guidance-rescale 1.5: want a number from 0 to 1"),
        (Settings(guidance_audio=float("inf")), "guidance-audio inf: want a finite number"),
        (Settings(guidance_text=float("nan")), "guidance-text nan: want a finite number"),
        (Settings(guidance_text="much"), "guidance-text much: want a finite number"),  # type: ignore[arg-type]
        (Settings(solver="euler"), "solver euler: want one of ddim, dpm"),  # type: ignore[arg-type]
        (Settings(temporal="none"), "temporal none: want one of windows, full"),  # type: ignore[arg-type]
        (
            Settings(interpolator=UNetSettings(steps=0)),
            "interpolator-steps 0: want a whole number, 1 to 1000",
        ),
    ],
)
def test_wrong_settings_name_the_valid_ones(settings, message):
    with pytest.raises(SettingsError) as error:
        resolve(settings, Sampling())
    assert str(error.value) == message


def test_settings_are_parsed_by_name_and_type():
    texts = ["steps=25", "solver=dpm", "guidance-audio=1e1", "eta = 0", "interpolator_steps=6"]
    parsed = parse_settings([*texts, "cfg-batch=2", "quality=fast"])
    both = {"steps": 25, "solver": "dpm", "guidance_audio": 10.0, "eta": 0.0, "quality": "fast"}
    assert parsed == Settings(**both, interpolator=UNetSettings(steps=6), cfg_batch=2)
    assert isinstance(parsed.eta, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step=25", "one of quality, steps, spacing, solver, eta"),
        ("steps", "want NAME=VALUE"),
        ("steps=2.5", "want a whole number for steps"),
        ("eta=low", "want a number for eta"),
    ],
)
def test_wrong_texts_are_explained(text, message):
    with pytest.raises(SettingsError, match=message):
        parse_settings([text])
