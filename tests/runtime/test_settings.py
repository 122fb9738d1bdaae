from dataclasses import replace

import pytest

from keyvid.bundle.specs import GraphMemory, GraphSpec, SamplingDefaults
from keyvid.errors import SettingsError
from keyvid.runtime.settings import Settings, check_seed, resolve

DEFAULTS = SamplingDefaults(25, 1.0, "ddim", 2.0, 7.5, 7.5, 9.0, 0.7, "windows")


@pytest.fixture
def bundle(bundle_of):
    memory = GraphMemory(0, 0, 0, 0)
    graphs = [GraphSpec(f"b{size}", {}, {}, memory, branches=size) for size in (4, 2, 1)]
    return bundle_of(DEFAULTS, {"generator": graphs, "interpolator": graphs})


def test_what_is_not_set_is_the_bundles(bundle):
    assert resolve(Settings(), bundle) == DEFAULTS
    changed = resolve(Settings(steps=3, eta=0.0, temporal="full", cfg_batch=2), bundle)
    assert changed == replace(DEFAULTS, steps=3, eta=0.0, temporal="full")


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
        (Settings(solver="euler"), "solver euler: want one of ddim, dpm"),
        (Settings(temporal="none"), "temporal none: want one of windows, full"),
        (Settings(cfg_batch=3), "cfg-batch 3: want one of 1, 2, 4"),
        (Settings(cfg_batch=0), "cfg-batch 0: want one of 1, 2, 4"),
    ],
)
def test_wrong_settings_name_the_valid_ones(bundle, settings, message):
    with pytest.raises(SettingsError) as error:
        resolve(settings, bundle)
    assert str(error.value) == message


@pytest.mark.parametrize("seed", [-1, 2**63, 1.0, "1"])
def test_wrong_seed(seed):
    with pytest.raises(SettingsError, match="want a whole number, 0 to 9223372036854775807"):
        check_seed(seed)


def test_seed():
    assert check_seed(0) == 0
    assert check_seed(2**63 - 1) == 2**63 - 1
