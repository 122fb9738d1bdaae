"""`python -m bench.quality`: recipes, generation with a stand-in model, tables, sheets."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.quality import command as quality
from bench.quality import recipes
from bench.quality.cost import bundle_flops, clip_flops, format_calls, preset_flops
from bench.quality.examples import Task, make_example, plan_tasks
from bench.quality.picture import PictureScores
from bench.quality.recipes import Recipe, read_variants, vary
from bench.quality.results import score_pictures
from bench.quality.run import find_lag
from bench.quality.without import ABLATIONS
from keyvid import Pipeline
from keyvid.bundle.manifest import Bundle
from keyvid.errors import SettingsError
from keyvid.export.stages import Variant
from keyvid.runtime.diffusion.diffusion import Diffusion
from keyvid.runtime.diffusion.segments import Segment
from keyvid.sampling import Sampling, Settings, UNetSettings, resolve
from keyvid.score.results import read_clips
from keyvid_ref.presets import PRESETS
from keyvid_ref.world import world

ROOT = Path(__file__).parents[2]


def run(*args: object) -> int:
    return quality.main([str(arg) for arg in args])


def test_variants_are_data(tmp_path: Path) -> None:
    path = tmp_path / "variants.json"
    path.write_text('{"short": {"settings": {"steps": 8}, "keyframes": "uniform"}}')
    variants = read_variants(path)
    base = Recipe(seed=3, settings=("solver=dpm",))
    varied = vary(base, variants["short"])
    assert varied == Recipe(seed=3, settings=("solver=dpm", "steps=8"), keyframes="uniform")


def test_cost_counts_the_branches_of_each_step() -> None:
    settings = Settings(
        steps=4,
        guidance_image=1.0,
        guidance_text=1.0,
        guidance_until=500,
        interpolator=UNetSettings(steps=2, guidance_audio=1.0),
    )
    sampling = resolve(settings, Sampling())
    assert format_calls(sampling) == {"generator": "2 x 2 + 2 x 1", "interpolator": "2 x 1"}

    def flops_of_call(unet: str, variant: Variant) -> int:
        assert variant.temporal == (None if unet == "generator" else "windows")
        return {"generator": 100, "interpolator": 1}[unet] * (variant.branches or 0)

    assert clip_flops(sampling, flops_of_call) == 100 * (2 * 2 + 2 * 1) + 2 * 1


def test_a_preset_costs_what_its_bundle_does() -> None:
    variant = Variant(1)
    counted = preset_flops(PRESETS["tiny"])("generator", variant)
    assert counted == bundle_flops(Bundle.load("tiny"))("generator", variant) > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "want"),
        ('{"a": 3}', "want"),
        ('{"a": {"steps": 8}}', "a recipe has no steps; it has bundle, engine, settings"),
        ('{"a": {"settings": [8]}}', "settings are"),
    ],
)
def test_wrong_variants_are_explained(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "variants.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=message):
        vary(Recipe(), read_variants(path)["a"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Prompts given to a stand-in for the networks that moves exactly as the sound says."""
    prompts: list[str] = []
    frames_by_sound: dict[bytes, np.ndarray] = {}

    class Follower(Pipeline):
        def __call__(self, image: Any, audio: Any, *, prompt: str = "", **_: Any) -> Any:
            prompts.append(prompt)
            if not frames_by_sound:
                frames_by_sound.update(_films(*image.shape[:2]))
            still = np.repeat(image[None], world.NUM_FRAMES, axis=0)
            frames = frames_by_sound.get(audio[0].tobytes(), still)
            return SimpleNamespace(frames=frames, keyframes=np.arange(0, world.NUM_FRAMES, 4))

    monkeypatch.setattr(recipes, "Pipeline", Follower)
    return prompts


def _films(height: int, width: int) -> dict[bytes, np.ndarray]:
    """Frames that suit the sounds of the first four clips and their controls."""
    films = {}
    for task in plan_tasks(4, 2, height, width):
        example = make_example(task, height, width)
        if task.sound != "silent":
            clip = world.make_clip(task.seed, height, width, events=example.events)
            films[example.waveform.tobytes()] = clip.frames
    return films


def test_generated_clips_are_scored_kept_and_not_made_again(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("score", "--clips", 4, "--controls", 2, "--out", out, "--set", "steps=4")
    assert run(*command) == 0
    made = len(calls)
    assert made >= 4 + 2 + 2
    assert set(calls) <= set(world.KINDS)
    assert capsys.readouterr().out == (out / "table.md").read_text()
    scores = json.loads((out / "scores.json").read_text())
    assert "'steps': 4" in str(scores["made_with"]["settings"])
    # A model that does what the sound says scores as the true clips do.
    assert scores["scores"] == scores["true"]["scores"]
    assert scores["kinds"] == scores["true"]["kinds"]
    pictures = scores["pictures"]["all"]
    for measure in ("still_psnr_db", "rest_psnr_db", "moving_psnr_db"):
        assert pictures[measure] == pytest.approx(138, abs=1)  # no error at all
    assert (pictures["flicker"], pictures["motion_energy"], pictures["moving_at_end"]) == (0, 1, 0)
    assert pictures["resting_at_end"] > 0
    assert scores["keyframes"]["longest_gap_s"] == pytest.approx(4 / 24, abs=1e-3)
    silent, swapped, shifted = (scores["controls"][s] for s in ("silent", "swapped", "shifted"))
    assert shifted["median_lag_ms"] == pytest.approx(250, abs=10)
    for measure in ("frame difference", "tracked pose"):
        assert silent["heard"][measure]["false_strikes"] == 0
        assert swapped["heard"][measure]["at_ms"]["83"]["f1"] > 0.9
        assert swapped["own"][measure]["at_ms"]["83"]["f1"] == pytest.approx(
            swapped["coincidence"][measure]["at_ms"]["83"]["f1"], abs=0.1
        )
    assert len(read_clips(out / "scores.json")) == 4  # keyvid-score compare reads it

    (out / "clips" / "10001.npz").unlink()
    assert run(*command) == 0
    assert len(calls) == made + 1
    assert json.loads((out / "scores.json").read_text())["scores"] == scores["scores"]

    capsys.readouterr()
    assert run("score", "--clips", 4, "--out", out, "--set", "steps=5") == 2
    assert re.search("made with other values of .*settings", capsys.readouterr().err)
    assert len(calls) == made + 1


def test_mistakes_are_found_before_anything_is_made(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    variants = tmp_path / "variants.json"
    variants.write_text('{"good": {}, "bad": {"settings": {"solver": "euler"}}}')
    for args, message in (
        (("score", "--set", "solver=euler"), "solver euler"),
        (("score", "--keyframes", "some"), "keyframes 'some'"),
        (("score", "--bundle", "absent"), "absent"),
        (("compare", "--variants", variants), "solver euler"),
        (("compare", "--variant", "nothing"), "no variant nothing; there are uniform, "),
    ):
        assert run(*args, "--out", out) == 2
        assert message in capsys.readouterr().err
    assert not calls
    assert not out.exists()


def test_variants_stand_beside_the_default(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["compare", "--clips", "4", "--variant", "uniform", "--variant", "no-frame-index"]
    assert run(*command, "--out", out) == 0
    table = capsys.readouterr().out
    assert table == (out / "table.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "first",
        "uniform",
        "no-frame-index",
    ]
    assert "| +0.00 (+0.00 to +0.00) |" in table  # the stand-in does what the sound says
    assert table.count("| 138.1 dB   |") == 2  # and the same each time
    assert json.loads((out / "uniform" / "made-with.json").read_text())["keyframes"] == "uniform"
    assert len(calls) == 3 * 4
    assert run(*command, "--out", out) == 0
    assert len(calls) == 3 * 4


def test_a_sheet_shows_truth_above_and_clips_below(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheet.jpg"
    assert run("score", "--clips", 2, "--out", out) == 0
    path = out / "clips" / "10001.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    np.savez_compressed(path, **{**kept, "frames": np.full_like(kept["frames"], 200)})
    assert run("sheet", out, sheet, "--seed", 10000, "--seed", 10001) == 0
    with Image.open(sheet) as image:
        assert image.format == "JPEG"
        pixels = np.asarray(image).astype(int)
    height, width = kept["frames"].shape[1:3]
    strip = 22 + 2 * height + 4
    assert pixels.shape[:2] == (2 * (strip + 12) + 12, 16 * (width + 4) + 24)
    top = 12 + strip + 12 + 22  # of the second clip's frames
    below = pixels[top + height + 4 : top + 2 * height + 4, 12 : 12 + width]
    assert np.abs(below - 200).max() < 8
    truth = make_example(Task(10001), height, width).truth.frames[0]
    above = pixels[top : top + height, 12 : 12 + width]
    assert np.abs(above - truth).mean() < 6  # what JPEG does
    assert run("sheet", out, sheet, "--seed", 10005) == 2
    assert "make the clip first" in capsys.readouterr().err


def test_clips_that_move_at_their_end_are_counted() -> None:
    def clip(end_shift: float | None) -> Any:
        names = ("still_psnr_db", "flicker", "rest_psnr_db", "moving_psnr_db", "motion_energy")
        picture = PictureScores(**dict.fromkeys(names), end_shift=end_shift)
        return SimpleNamespace(picture=picture)

    scores = score_pictures([clip(None), clip(0.1), clip(5.0)])
    assert (scores["moving_at_end"], scores["resting_at_end"]) == (1, 2)
    assert scores["still_psnr_db"] is None


def processes_of(session: int) -> list[int]:
    """Ids of the processes of a session that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return condition()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench.quality", "score", "--jobs", "2", "--clips", "4"]
    command += ["--engine", "onnxruntime", "--set", "steps=1000", "--out", str(tmp_path / "out")]
    with open(tmp_path / "log", "wb") as log:
        done = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    session = done.pid
    try:
        # The command, the tracker of multiprocessing and two that make clips.
        started = wait_until(lambda: len(processes_of(session)) >= 4, 120)
        assert started, (tmp_path / "log").read_text()
        time.sleep(1)
        done.send_signal(number)
        done.wait(60)
        assert wait_until(lambda: not processes_of(session), 60)
    finally:
        for process in processes_of(session):
            os.kill(process, signal.SIGKILL)
        done.wait()


@pytest.mark.parametrize("lag", [-5.0, 0.0, 2.5, 6.0])
def test_the_lag_of_a_moved_curve_is_found(lag: float) -> None:
    frames = np.arange(48)

    def curve(moved: float) -> np.ndarray:
        return np.sum([np.exp(-(((frames - at - moved) / 2) ** 2)) for at in (14, 21, 33)], axis=0)

    assert find_lag(curve(0), curve(lag), 12) == pytest.approx(lag, abs=0.1)


def test_ablations_keep_from_the_networks_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(Diffusion, "_sample", lambda self, *_, **inputs: seen.append(inputs))
    size = SimpleNamespace(frames=48, fps=24, keyframe_fps=6)
    stages = SimpleNamespace(bundle=SimpleNamespace(dimensions=size))
    sampling = Sampling(temporal="full")
    keyframes = np.array([0, 5, 9, 40])
    for name in ABLATIONS:
        rng = np.random.default_rng(0)
        latents = np.ones((1, 2, 1, 3, 3), np.float32)
        diffusion = ABLATIONS[name](stages, sampling, latents[:, :, 0], 0, rng)
        segment = Segment(0, 0, 0, 48, keyframes, 44)
        diffusion.generate_keyframes(segment, None)
        diffusion.interpolate(segment, None, latents.repeat(4, axis=2))
    (index_told, all_shown, index_true, rest_shown) = seen
    assert index_told["frame_index"].tolist() == [0, 12, 24, 36]
    assert index_told["keyframes"].tolist() == keyframes.tolist()  # the sound is its own
    assert index_true["frame_index"].tolist() == keyframes.tolist()
    for inputs, frames in ((all_shown, keyframes), (rest_shown, keyframes[1:])):
        shown = np.flatnonzero(inputs["condition"].any(axis=(0, 1, 3, 4)))
        assert shown.tolist() == frames.tolist()
