"""Settings: one set of names, ranges and words for all who offer them."""

from dataclasses import fields, replace

import pytest

from keyvid.errors import SettingsError
from keyvid.sampling import (
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
    assert {"steps", "interpolator_steps", "temporal"} < set(names)
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
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
    parsed = parse_settings([*texts, "cfg-batch=2"])
    both = {"steps": 25, "solver": "dpm", "guidance_audio": 10.0, "eta": 0.0}
    assert parsed == Settings(**both, interpolator=UNetSettings(steps=6), cfg_batch=2)
    assert isinstance(parsed.eta, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step=25", "one of steps, solver, eta"),
        ("steps", "want NAME=VALUE"),
        ("steps=2.5", "want a whole number for steps"),
        ("eta=low", "want a number for eta"),
    ],
)
def test_wrong_texts_are_explained(text, message):
    with pytest.raises(SettingsError, match=message):
        parse_settings([text])
