"""Recordings from packages: which family a file is of, and where its onset lies."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from keyvid_ref.world import fetch
from keyvid_ref.world.recordings import LEAD_S, STRUCK, load_recordings

RATE = 16_000


def burst(begin: float, seconds: float = 1.0, attack: float = 0.001) -> np.ndarray:
    """Noise that begins at `begin` and fades within a tenth of a second."""
    time = np.arange(round(seconds * RATE)) / RATE - begin
    noise = np.random.default_rng(0).standard_normal(len(time))
    shape = np.where(time < 0, 0, np.minimum(time / attack, 1) * np.exp(-np.maximum(time, 0) / 0.1))
    return (noise * shape / np.abs(noise * shape).max()).astype(np.float32)


@pytest.mark.parametrize("begin", [0.0, 0.1, 0.4])
def test_the_onset_of_a_burst(begin: float) -> None:
    onset = fetch.find_onset(burst(begin))
    assert onset == pytest.approx(begin, abs=0.004)


@pytest.mark.parametrize(
    "sound", [burst(0.1) + burst(0.6), burst(0.1, attack=0.5)], ids=["two", "swelling"]
)
def test_what_is_no_one_shot(sound: np.ndarray) -> None:
    assert fetch.find_onset(sound) is None
    assert fetch.prepare(sound, "drum") is None


@pytest.mark.parametrize("begin", [0.0, 0.3])
def test_a_one_shot_begins_a_lead_before_its_onset(begin: float) -> None:
    prepared = fetch.prepare(burst(begin, 3.0), "drum")
    assert prepared is not None
    assert len(prepared) <= 1.5 * RATE
    loud = np.abs(prepared) > 0.1
    assert np.argmax(loud) / RATE == pytest.approx(LEAD_S, abs=0.004)


def test_of_an_animal_the_first_call_is_kept() -> None:
    prepared = fetch.prepare(burst(0.1) + burst(0.6), "call")
    assert prepared is not None
    assert len(prepared) < 0.45 * RATE


@pytest.mark.parametrize(
    ("package", "path", "family"),
    [
        ("hydrogen-drumkits", "kit/Cowbell-Hard.wav", "metal"),
        ("hydrogen-drumkits", "kit/Maraca-Soft.wav", "rustle"),
        ("hydrogen-drumkits", "kit/PearlKick-Med.wav", "thump"),
        ("hydrogen-drumkits", "kit/snare1.flac", "drum"),
        ("hydrogen-drumkits", "kit/emptySample.flac", None),
        ("minetest-data", "default_gravel_footstep.1.ogg", "rustle"),
        ("minetest-data", "env_sounds_water.1.ogg", "noise"),
        ("tuxpaint-stamps-default", "animals/dogs/dog.ogg", "call"),
        ("tuxpaint-stamps-default", "animals/dogs/dog_desc.ogg", "voice"),
        ("tuxpaint-stamps-default", "household/vacuum_cleaner_desc.ogg", "voice"),
        ("tuxpaint-stamps-default", "animals/dogs/dog_desc_de.ogg", None),
        ("tuxpaint-stamps-default", "household/vacuum_cleaner.ogg", "noise"),
    ],
)
def test_families(package: str, path: str, family: str | None) -> None:
    assert fetch.family_of(fetch.SOURCES[package], path) == family


def test_unpacked_packages_become_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All families from one package that is there already, each sound with where it is from."""
    patterns = tuple((family, family) for family in (*STRUCK, "voice", "held", "noise"))
    monkeypatch.setattr(fetch, "SOURCES", {"kit": fetch.Source("CC0", patterns)})
    package = tmp_path / "packages" / "kit"
    package.mkdir(parents=True)
    for family, _ in patterns:
        soundfile.write(package / f"{family}.wav", burst(0.1), RATE)
    (package / "broken.txt").write_text("no sound")
    arguments = [str(tmp_path / "out"), "--packages", str(tmp_path / "packages")]
    result = CliRunner().invoke(fetch.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert load_recordings(tmp_path / "out").sounds.keys() == dict(patterns).keys()
    sources = json.loads((tmp_path / "out" / "sources.json").read_text())
    assert len(sources) == len(patterns)
    assert {source["licence"] for source in sources.values()} == {"CC0"}
