"""Training of the whole preset: each part's loss is sound, and one command does everything."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from keyvid_ref import train, world
from keyvid_ref import train_unet as unets
from keyvid_ref.presets import PRESETS
from keyvid_ref.train_data import EncodedClips, has_fast_bfloat16, to_pixels
from keyvid_ref.weights import load_networks

TINY = PRESETS["tiny"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> train.Session:
    return train.Session(tmp_path_factory.mktemp("run"), TINY, CPU, 2, 1.0, workers=1)


@pytest.fixture(scope="module")
def encoded(session: train.Session) -> EncodedClips:
    return session.encoded("train")


def test_clips_are_those_of_the_world(session: train.Session) -> None:
    clips = session.clips("train")
    first = world.make_clip(world.TRAIN_SEEDS[0])
    assert len(clips) == 2
    np.testing.assert_array_equal(clips.frames[0], first.frames)
    np.testing.assert_array_equal(clips.pose[0], first.pose)


def test_moving_places_move(session: train.Session, encoded: EncodedClips) -> None:
    frames = np.asarray(session.clips("train").frames[0], dtype=np.float32)
    moves = np.ptp(frames, axis=0).max(axis=-1) > 0  # (H, W)
    share = moves.reshape(8, 8, 12, 8).mean(axis=(1, 3))  # of the pixels below each latent
    moving = encoded.moving[0].astype(np.float32)
    assert moving[share > 0.5].mean() > 2 * moving[share == 0].mean()


def test_each_frame_has_its_own_latent(session: train.Session, encoded: EncodedClips) -> None:
    """Frames like the one before are encoded once."""
    frames = to_pixels(session.clips("train").frames[0], CPU)
    repeated = (frames[1:] == frames[:-1]).flatten(1).all(dim=1)
    assert 0 < repeated.sum() < len(repeated)
    with torch.no_grad():
        latent = session.networks.vae.encode_moments(frames).chunk(2, dim=1)[0]
    error = (torch.from_numpy(encoded.latent[0].astype(np.float32)) - latent).norm()
    assert error < 2e-2 * latent.norm()  # bfloat16


def test_a_cpu_that_imitates_bfloat16_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, fast in (({"amx_bf16": True}, True), ({"avx512_bf16": False}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert has_fast_bfloat16(CPU) is fast
    assert has_fast_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize("stage", ["generator", "interpolator"])
def test_velocity_loss_of_a_silent_unet(
    session: train.Session, encoded: EncodedClips, stage: str
) -> None:
    """A U-Net that begins at zero pays the velocity's own energy, and learns from it."""
    if stage == "generator":
        loss_of_batch = unets.generator_loss(encoded, TINY, CPU, batch=2)
    else:
        loss_of_batch = unets.interpolator_loss(encoded, TINY, CPU, num_frames=12, batch=2)
    unet = getattr(session.networks, stage)
    loss = loss_of_batch(unet, np.random.default_rng(0))
    loss.backward()
    energy = max(1.0, float(np.square(encoded.latent.astype(np.float32)).mean()))
    assert 0.1 < loss.item() < 3 * energy
    assert unet.out[-1].weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_one_command_trains_everything(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--clips", "4", "--effort", "0.0005"]
    result = CliRunner().invoke(train.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert load_networks(tmp_path, TINY)
    assert (tmp_path / "tokenizer.json").exists()
