"""Training of the whole preset: one run does everything, goes on after a kill, and is sound."""

import time
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from click import ClickException
from click.testing import CliRunner
from safetensors.torch import load_file

from keyvid_ref.presets import PRESETS
from keyvid_ref.training import command
from keyvid_ref.training.data import Clips, draw_clips, to_pixels
from keyvid_ref.training.parts import PARTS
from keyvid_ref.training.run import RECIPES, Run
from keyvid_ref.weights import load_networks
from keyvid_ref.world import world
from tests.keyvid_ref.world.recordings_folder import write_recordings

CPU = torch.device("cpu")
TINY = PRESETS["tiny"]
SMALL = replace(
    TINY,
    height=32,
    width=48,
    unet=replace(TINY.unet, model_channels=16),
    vae=replace(TINY.vae, channels=16),
)


def _run(folder: Path, **changes: object) -> Run:
    run = Run(folder, SMALL, CPU, num_clips=6, workers=1, steps=2, batch_scale=1 / 48, crops=True)
    return replace(run, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with all of its parts, two steps of each phase."""
    folder = tmp_path_factory.mktemp("run")
    command.train(_run(folder), list(PARTS), jobs=1)
    return folder


def test_every_part_leaves_its_network(trained: Path) -> None:
    assert load_networks(trained, SMALL)
    assert (trained / "tokenizer.json").exists()
    for phase in RECIPES:
        rows = (trained / f"{phase}.csv").read_text().splitlines()
        assert rows[0] == "step,seconds,loss,validation"
        assert rows[-1].startswith("2,")
    snapshots = {path.stem for path in (trained / "snapshots").iterdir()}
    assert snapshots == {path.stem for path in trained.glob("*.safetensors")}


def test_a_finished_run_has_nothing_to_do(trained: Path) -> None:
    files = [path for path in trained.rglob("*") if path.suffix in (".npy", ".checkpoint")]
    before = {path: path.stat().st_mtime_ns for path in files}
    weights = load_file(trained / "vae.safetensors")
    command.train(_run(trained), list(PARTS), jobs=1)
    assert {path: path.stat().st_mtime_ns for path in files} == before
    torch.testing.assert_close(load_file(trained / "vae.safetensors"), weights, rtol=0, atol=0)


def test_clips_are_those_of_the_world(trained: Path) -> None:
    names = ("frames", "mel", "motion", "pose", "kind")
    clips = Clips(trained / "clips" / "train", names, CPU)
    second = world.make_clip(world.TRAIN_SEEDS[1], SMALL.height, SMALL.width)
    assert len(clips) == 6
    np.testing.assert_array_equal(clips["frames"][1], second.frames)
    np.testing.assert_array_equal(clips["pose"][1], second.pose)
    np.testing.assert_array_equal(clips["motion"][1], second.motion)
    assert list(world.KINDS)[clips["kind"][1]] == second.kind


def test_each_frame_has_its_own_latent(trained: Path) -> None:
    """Frames like the one before are encoded once, and the decoder's training changes none."""
    folder = trained / "clips" / "train"
    frames = to_pixels(Clips(folder, ("frames",), CPU)["frames"][0])
    repeated = (frames[1:] == frames[:-1]).flatten(1).all(dim=1)
    assert 0 < repeated.sum() < len(repeated)
    vae = load_networks(trained, SMALL).vae
    with torch.no_grad():
        latent = vae.encode_moments(frames).chunk(2, dim=1)[0]
    encoded = Clips(folder, ("latent",), CPU)["latent"][0].float()
    assert (encoded - latent).norm() < 2e-2 * latent.norm()  # bfloat16


def test_latents_are_scaled(trained: Path) -> None:
    latent = Clips(trained / "clips" / "train", ("latent",), CPU)["latent"].float()
    assert 0.5 < latent.std() < 2
    assert latent.mean().abs() < 0.3


def test_moving_places_move(trained: Path) -> None:
    clips = Clips(trained / "clips" / "train", ("frames",), CPU)
    moving = Clips(trained / "clips" / "train", ("latent", "moving"), CPU)["moving"].float()
    moves = np.ptp(clips["frames"].numpy().astype(int), axis=1).max(axis=-1) > 0  # (N, H, W)
    share = torch.from_numpy(moves).float().unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(-1, -2))
    assert moving[share > 0.5].mean() > 2 * moving[share == 0].mean()


def test_the_interpolator_begins_as_the_generator(trained: Path, tmp_path: Path) -> None:
    generator = trained / "generator.safetensors"
    unet = _run(tmp_path).begin("interpolator", otherwise=generator)
    weights = load_file(generator)
    for name, value in unet.state_dict().items():
        torch.testing.assert_close(value, weights[name].float(), rtol=0, atol=0)


def test_training_begins_from_given_weights(trained: Path, tmp_path: Path) -> None:
    run = _run(tmp_path, start=trained)
    given = load_file(trained / "audio_encoder.safetensors")
    for name, value in run.begin("audio_encoder").state_dict().items():
        torch.testing.assert_close(value, given[name].float(), rtol=0, atol=0)


def test_an_interpolator_with_weights_to_begin_from_waits_for_no_generator(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "clips").symlink_to(trained / "clips")
    command.train(_run(tmp_path, start=trained, steps=1), ["interpolator"], jobs=1)
    assert not (tmp_path / "generator.safetensors").exists()
    assert PARTS["interpolator"].is_finished(_run(tmp_path))


def test_every_second_clip_is_heard_with_recordings(trained: Path, tmp_path: Path) -> None:
    recordings = write_recordings(tmp_path / "recordings")
    draw_clips(tmp_path / "clips", "train", 2, SMALL, 1, recordings)
    clips, drawn = (
        Clips(folder, ("frames", "mel"), CPU)
        for folder in (tmp_path / "clips", trained / "clips" / "train")
    )
    np.testing.assert_array_equal(clips["frames"][:2], drawn["frames"][:2])
    np.testing.assert_array_equal(clips["mel"][0], drawn["mel"][0])
    assert (clips["mel"][1] - drawn["mel"][1]).abs().max() > 0.1


def test_a_folder_of_other_clips_is_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match="begun for 6 clips, not 7: choose"):
        command.train(_run(trained, num_clips=7), ["draw"], jobs=1)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    arguments = ["--out", str(tmp_path / "run"), "--device", "cuda"]
    result = CliRunner().invoke(command.main, arguments)
    assert result.exit_code == 2
    assert "torch finds no NVIDIA GPU" in result.output
    assert not (tmp_path / "run").exists()


def test_options_become_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []
    monkeypatch.setattr(command, "train", lambda *arguments: calls.append(arguments))
    arguments = ["--out", str(tmp_path), "--part", "localizer", "--seconds", "90", "--clips", "50"]
    result = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    ((run, names, jobs),) = calls
    assert (run.seconds, run.num_clips, run.batch_scale) == (90, 50, 1 / 8)
    assert (names, jobs) == (("localizer",), 1)


def test_time_of_a_part_is_shared_by_its_phases(tmp_path: Path) -> None:
    run = _run(tmp_path, seconds=50.0).of_phases(PARTS["interpolator"].phases)
    assert run.recipe("interpolator_runs").seconds == pytest.approx(30)
    assert run.recipe("interpolator").seconds == pytest.approx(20)
    assert run.recipe("interpolator").batch == 1  # a 48th of 24


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """Killed once a checkpoint lies there; started again, it takes the step that is left."""
    run = _run(tmp_path, steps=1e9, seconds=1e9)
    command.train(run, ["draw"], jobs=1)
    process = SpawnProcess(target=command.train, args=(run, ["localizer"], 1))
    process.start()
    checkpoint = tmp_path / "localizer.checkpoint"
    try:
        while not checkpoint.exists():
            assert process.is_alive()
            time.sleep(0.1)
    finally:
        process.kill()
        process.join()
    done = torch.load(checkpoint, weights_only=True)
    assert done["num_steps"] > 2
    assert not PARTS["localizer"].is_finished(run)
    command.train(replace(run, steps=done["num_steps"] + 1), ["localizer"], jobs=1)
    assert torch.load(checkpoint, weights_only=True)["num_steps"] == done["num_steps"] + 1
    assert PARTS["localizer"].is_finished(run)


@pytest.mark.slow
def test_parts_train_side_by_side_and_stop_together(tmp_path: Path) -> None:
    run = _run(tmp_path)
    command.train(run, ["draw", "audio_encoder", "localizer"], jobs=3)
    assert PARTS["audio_encoder"].is_finished(run)
    assert PARTS["localizer"].is_finished(run)
    (tmp_path / "generator.safetensors").write_bytes(b"no weights")
    with pytest.raises(ClickException, match="part interpolator failed"):
        command.train(run, ["encode", "interpolator"], jobs=2)  # encode waits for an autoencoder
