"""Batches and losses of the U-Nets: gathers pick what loops would, and what is told is right."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from keyvid_ref.presets import PRESETS
from keyvid_ref.schedule import noise_schedule
from keyvid_ref.training import losses
from keyvid_ref.training.data import Clips
from keyvid_ref.unet import UNet
from keyvid_ref.unet_blocks import FrameConv

TINY = PRESETS["tiny"]
SMALL = replace(TINY, unet=replace(TINY.unet, model_channels=16))
NUM_CLIPS, NUM_FRAMES = 5, TINY.frames
SHAPES = {
    "latent": (NUM_FRAMES, 16, 6, 10),
    "audio": (NUM_FRAMES, 9, TINY.unet.audio_dim),
    "image": (NUM_FRAMES, TINY.unet.image_tokens, TINY.unet.context_dim),
    "text": (TINY.unet.text_tokens, TINY.unet.context_dim),
    "moving": (6, 10),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """Random clips; only the last row of places moves."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = rng.standard_normal((NUM_CLIPS, *shape)).astype(np.float16)
        if name == "moving":
            values[:] = 0
            values[:, -1] = 1
        np.save(folder / f"{name}.npy", values)
        if name in ("audio", "image", "text"):
            np.save(folder / f"null_{name}.npy", np.full(shape, 9, np.float16))
    own = np.sort(rng.permuted(np.tile(np.arange(1, 48), (NUM_CLIPS, 1)), axis=1)[:, :11], axis=1)
    np.save(folder / "keyframes.npy", np.concatenate([np.zeros((NUM_CLIPS, 1), int), own], axis=1))
    (folder / "encoded").write_text(str(NUM_CLIPS))
    return Clips(folder, (*SHAPES, "keyframes"), torch.device("cpu"))


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Spy(torch.nn.Module):
    """Keeps what a U-Net is told and predicts nothing."""

    def forward(self, latent: Tensor, *told: object) -> Tensor:
        self.noisy, self.condition = latent.chunk(2, dim=1)
        self.timestep, self.context, self.audio, self.fps, self.frame_index, self.temporal = told
        return torch.zeros_like(self.noisy)


def test_gathers_pick_what_loops_would(clips: Clips, generator: torch.Generator) -> None:
    clip = torch.tensor([3, 0, 3, 1] * 20)
    index = torch.randint(48, (80, 7), generator=generator).sort(dim=1).values
    sample = losses._draw_sample(clips, clip, index, generator)
    missing = np.zeros(3)
    for i in range(len(clip)):
        frames = index[i]
        expected = clips["latent"][clip[i]][frames].float().transpose(0, 1)
        torch.testing.assert_close(sample.latent[i], expected, rtol=0, atol=0)
        text, image = sample.context[i].split([16, 7 * 4])
        told = {
            "text": (text, clips["text"][clip[i]]),
            "image": (image, clips["image"][clip[i]][frames].flatten(0, 1)),
            "audio": (sample.audio[i], clips["audio"][clip[i]][frames]),
        }
        for j, (got, full) in enumerate(told.values()):
            null = bool((got == 9).all())
            missing[j] += null
            assert null or torch.equal(got, full.float())
    assert (np.abs(missing / 80 - [0.3, 0.1, 0.15]) < 0.15).all()
    assert missing.min() > 0


def test_keyframe_sets(generator: torch.Generator) -> None:
    own = torch.tensor([[0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 47]]).expand(400, -1)
    sets = losses._keyframe_sets(own, 48, generator)
    assert sets.shape == (400, 12)
    assert (sets[:, 0] == 0).all()
    assert (sets.diff(dim=1) > 0).all()
    assert sets.max() <= 47
    near = ((sets - own).abs() <= 1).all(dim=1).float().mean()
    assert 0.5 < near < 0.7
    assert 0 < (sets == own).all(dim=1).float().mean() < near  # jittered, but not all


def test_the_generator_is_told_the_first_frame(clips: Clips, generator: torch.Generator) -> None:
    spy = Spy()
    losses.generator_loss(spy, clips, SMALL, 6, generator)
    assert spy.noisy.shape == (6, 16, 12, 6, 10)
    first = clips["latent"][:, 0].float()
    for condition in spy.condition.transpose(1, 2):  # (12, C, h, w)
        assert any(torch.equal(condition, frame.expand(12, -1, -1, -1)) for frame in first)
    assert (spy.frame_index[:, 0] == 0).all()
    assert (spy.fps == SMALL.keyframe_fps).all()
    assert spy.temporal == "full"


def test_the_interpolator_is_told_noisy_keyframes(clips: Clips, generator: torch.Generator) -> None:
    spy = Spy()
    losses.interpolator_loss(spy, clips, SMALL, 6, generator)
    assert spy.noisy.shape == (6, 16, 48, 6, 10)
    told = spy.condition.abs().sum(dim=(1, 3, 4)) > 0  # (6, 48)
    assert (told.sum(dim=1) == 12).all()
    assert told[:, 0].all()
    errors = [(spy.condition[:, :, 0] - frame).abs().amax() for frame in clips["latent"][:, 0]]
    assert min(errors) > 0
    assert spy.frame_index is None
    assert (spy.fps == SMALL.fps).all()
    assert spy.temporal == "windows"


def test_crops_are_parts_of_pictures_where_things_move(
    clips: Clips, generator: torch.Generator
) -> None:
    clip, index = torch.arange(5).repeat(20), torch.arange(4).expand(100, -1)
    whole = losses._draw_sample(clips, clip, index, generator)
    crop = whole.crop((2, 4), generator)
    assert crop.latent.shape == (100, 16, 4, 2, 4)
    windows = whole.latent.unfold(3, 2, 1).unfold(4, 4, 1)  # (B, C, F, y, x, 2, 4)
    same = (windows == crop.latent[:, :, :, None, None]).all(dim=-1).all(dim=-1)
    places = same.all(dim=1).all(dim=1).nonzero()  # clip, y, x
    assert places[:, 0].tolist() == list(range(100))
    assert (places[:, 1] == 4).float().mean() > 0.6  # a fifth of the rows to begin at
    assert places[:, 2].unique().tolist() == list(range(7))
    assert crop.moving.shape == (100, 1, 1, 2, 4)
    assert losses.Sample.crop(whole, (99, 99), generator).latent.equal(whole.latent)


def test_a_silent_unet_pays_the_velocitys_energy(clips: Clips, generator: torch.Generator) -> None:
    schedule, spy = noise_schedule(SMALL.dynamic_rescale), Spy()
    kept = schedule.alphas_cumprod
    energy = kept + (1 - kept) * schedule.rescale**2  # noise and latents have a variance of 1
    expected = 0.75 * energy.mean() + 0.25 * energy[850:].mean()
    loss = losses.generator_loss(spy, clips, SMALL, 400, generator)
    assert loss.item() == pytest.approx(expected.item(), rel=0.05)  # 400 timesteps
    assert 0.3 < (spy.timestep >= 850).float().mean() < 0.45
    assert spy.timestep.min() >= 0
    assert spy.timestep.max() <= 999


@pytest.mark.parametrize("stage", ["generator", "interpolator"])
def test_a_unet_learns_from_its_loss(clips: Clips, generator: torch.Generator, stage: str) -> None:
    unet = UNet(SMALL.unet_config(stage)).train()
    unet.zero_residual_branches()
    loss = getattr(losses, f"{stage}_loss")(unet, clips, SMALL, 1, generator, moving_weight=4.0)
    loss.backward()
    assert unet.out[-1].weight.grad.abs().sum() > 0


def test_a_convolution_over_frames_is_one_of_videos() -> None:
    torch.manual_seed(0)
    layer, video = FrameConv(6), torch.randn(2, 6, 5, 3, 4)
    want = F.conv3d(video, layer.weight, layer.bias, padding=(1, 0, 0))
    torch.testing.assert_close(layer(video.flatten(3)), want.flatten(3))


def test_clips_are_taken_in_as_they_are_finished(
    tmp_path: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "mel.npy", np.arange(8, dtype=np.float16)[:, None])
    (tmp_path / "drawn").write_text("3")
    clips = Clips(tmp_path, ("mel",), torch.device("cpu"), at_least=2)
    assert len(clips) == 3
    assert clips.choose(50, generator).unique().tolist() == [0, 1, 2]
    (tmp_path / "drawn").write_text("8")
    assert len(clips) == 3
    monkeypatch.setattr("keyvid_ref.training.data._LOOK_EVERY_S", -1.0)
    assert clips.choose(200, generator).unique().tolist() == list(range(8))
    few = Clips(tmp_path, ("mel",), torch.device("cpu"), at_most=4)
    assert few.choose(200, generator).unique().tolist() == list(range(4))
