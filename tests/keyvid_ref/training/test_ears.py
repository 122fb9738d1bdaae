"""Training of the ears: pairs of drawn and recorded sounds, and a teacher."""

from pathlib import Path

import numpy as np
import pytest
import torch

from keyvid_ref.presets import PRESETS
from keyvid_ref.training import ears
from keyvid_ref.training.data import Clips
from keyvid_ref.training.run import Run
from keyvid_ref.weights import build_network, save_network
from tests.keyvid_ref.world.recordings_folder import write_recordings

CPU = torch.device("cpu")
NAMES = ("mel", "heard", "motion", "pose")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings") / "all")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Clips:
    folder = tmp_path_factory.mktemp("sounds")
    ears.draw_sounds(folder, "validation", 6, recordings, workers=1)
    return Clips(folder, NAMES, CPU)


def test_sounds_come_in_pairs_of_the_same_events(sounds: Clips) -> None:
    assert len(sounds) == 6
    assert sounds["mel"].shape == sounds["heard"].shape == (6, 128, 204)
    assert sounds["motion"].shape == sounds["pose"].shape == (6, 48)
    assert 0 < sounds["motion"].max() <= 1
    assert (sounds["mel"] != sounds["heard"]).any(dim=(1, 2)).all()


def test_some_of_a_batch_hear_what_is_drawn(sounds: Clips) -> None:
    generator = torch.Generator().manual_seed(0)
    heard, drawn, _, _ = ears.hear(sounds, 400, generator)
    gain = heard - drawn
    same = gain.std(dim=(1, 2)) < 1e-3
    assert 0.15 < same.float().mean() < 0.35
    assert gain[same].abs().max() <= 0.31


def test_a_pupil_that_equals_its_teacher_reads_drawn_sounds(sounds: Clips) -> None:
    """Its tokens are the teacher's, and few sounds are read without error by so many weights."""
    preset = PRESETS["tiny"]
    torch.manual_seed(0)
    encoder = build_network(preset, "audio_encoder")
    teacher = build_network(preset, "audio_encoder")
    teacher.load_state_dict(encoder.state_dict())
    pupil = ears.PupilTrainer(encoder, teacher, preset.frames)
    drawn, heard = sounds["mel"][:6].float(), sounds["heard"][:6].float()
    known = sounds["motion"][:6], sounds["pose"][:6]
    pupil.learn_to_read(drawn, *known)
    spread = torch.stack(known).var()
    with torch.no_grad():
        right, other = pupil.loss(drawn, drawn, *known), pupil.loss(heard, drawn, *known)
    assert right < 4 * spread
    assert other > right + 0.01
    assert all(not name.startswith("_") for name, _ in pupil.named_parameters())


def test_own_tokens_are_the_frames() -> None:
    tokens = torch.arange(1 + 2 * 3).float()[None, :, None]  # a class token, two rows of 3 frames
    assert ears.own_tokens(tokens, 3)[0].tolist() == [[0, 1, 4], [0, 2, 5], [0, 3, 6]]


def test_ears_are_trained_on_recordings(tmp_path: Path, recordings: Path) -> None:
    from keyvid_ref.training.command import train

    start = tmp_path / "start"
    start.mkdir()
    save_network(
        build_network(PRESETS["tiny"], "audio_encoder"), start / "audio_encoder.safetensors"
    )
    run = Run(
        tmp_path / "run", PRESETS["tiny"], CPU, num_clips=2, workers=1, steps=1,
        batch_scale=1 / 128, start=start, recordings=recordings, rate_scale=0.5,
    )  # fmt: skip
    train(run, ["sounds", "localizer", "audio_encoder"], jobs=1)
    assert run.has(("localizer", "audio_encoder"))
    assert run.recipe("localizer").learning_rate == pytest.approx(3e-4)
    assert np.isfinite(float((tmp_path / "run" / "localizer.csv").read_text().split(",")[-2]))
