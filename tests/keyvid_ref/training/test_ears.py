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


def test_a_pupil_that_equals_its_teacher_learns_from_the_head_alone(sounds: Clips) -> None:
    """On drawn sounds its tokens are the teacher's, so that they add nothing to the loss."""
    preset = PRESETS["tiny"]
    torch.manual_seed(0)
    encoder = build_network(preset, "audio_encoder")
    teacher = build_network(preset, "audio_encoder")
    teacher.load_state_dict(encoder.state_dict())
    taught = ears.AudioTrainer(encoder, preset, teacher)
    alone = ears.AudioTrainer(encoder, preset, None)
    alone.head.load_state_dict(taught.head.state_dict())
    drawn, heard = sounds["mel"][:2].float(), sounds["heard"][:2].float()
    known = sounds["motion"][:2], sounds["pose"][:2]
    with torch.no_grad():
        assert torch.allclose(taught.loss(drawn, drawn, *known), alone.loss(drawn, drawn, *known))
        assert taught.loss(heard, drawn, *known) > alone.loss(heard, drawn, *known)
    assert all("_teacher" not in name for name, _ in taught.named_parameters())


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
