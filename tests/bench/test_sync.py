"""The command bench/sync.py: settings, folders, generation with a stand-in model, comparison."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ablations
import av
import numpy as np
import pytest
import sync
import sync_make
from PIL import Image
from squares import EVENTS, PLACES, draw_square
from sync_ablations import ABLATIONS
from sync_clips import make_scene, plan_tasks

from keyvid import Pipeline
from keyvid.runtime.diffusion import Diffusion
from keyvid.sampling import Sampling
from keyvid_ref import world


def _write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four videos: a contact and a change at each frame rate, in three containers."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, event, fps in (
        ("a.mp4", "contact", 24),
        ("b.mkv", "change", 24),
        ("c.mp4", "contact", 30),
        ("d.avi", "change", 30),
    ):
        times = np.arange(2 * fps) / fps
        path = folder / name
        _write_video(path, draw_square(PLACES[event](times), 120, 160), fps)
        facts = {"events_s": EVENTS.tolist(), "event": event, "kind": f"square {event}"}
        path.with_suffix(".json").write_text(json.dumps(facts))
    return folder


def _run(*args: object) -> int:
    return sync.main([str(arg) for arg in args])


def test_a_folder_of_videos_is_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _run("--folder", folder, "--out", out) == 0
    scores = json.loads((out / "scores.json").read_text())
    assert (scores["clips"], scores["events"]) == (4, 12)
    assert scores["generated"]["tracked pose"]["at_ms"]["42"]["f1"] == 1
    assert abs(scores["generated"]["tracked pose"]["median_error_ms"]) < 10
    assert scores["true"] is scores["picture"] is scores["keyframes"] is None
    table = (out / "table.md").read_text()
    assert capsys.readouterr().out == table
    assert "| square change | change | 2 | 6 |" in table
    assert Image.open(out / "motion.png").width > 1000


def test_compact_facts_are_enough(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("[bcd].*"):
        path.unlink()
    (folder / "a.json").write_text(json.dumps({"events_s": EVENTS.tolist()}))
    assert _run("--folder", folder, "--out", tmp_path / "out") == 0
    (record,) = json.loads((tmp_path / "out" / "scores.json").read_text())["records"]
    assert (record["kind"], record["event"]) == ("clip", "contact")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "has no a.json beside it"),
        ("{", "a.json: cannot be read"),
        ('{"events": [1]}', "events_s is None; want a list of seconds"),
        ('{"events_s": [0.5, "1"]}', "want a list of seconds"),
        ('{"events_s": [0.5, 3.5]}', "event at 3.5 s, but the video lasts 2.00 s"),
        ('{"events_s": [0.5], "event": "bang"}', "event is 'bang'; want contact or change"),
    ],
)
def test_wrong_facts_are_explained(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    facts: str | None,
    message: str,
) -> None:
    if facts is None:
        (folder / "a.json").unlink()
    else:
        (folder / "a.json").write_text(facts)
    assert _run("--folder", folder, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_without_videos_and_files_that_are_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--folder", tmp_path / "nowhere") == 2
    assert "is not a folder" in capsys.readouterr().err
    assert _run("--folder", tmp_path) == 2
    assert "holds no video" in capsys.readouterr().err
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    (tmp_path / "a.json").write_text('{"events_s": []}')
    assert _run("--folder", tmp_path) == 2
    assert "a.mp4: not a video that can be read" in capsys.readouterr().err


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

    monkeypatch.setattr(sync_make, "Pipeline", Follower)
    return prompts


def _films(height: int, width: int) -> dict[bytes, np.ndarray]:
    """Frames that suit the sounds of the first four clips and their controls."""
    films = {}
    for task in plan_tasks(4, 2, height, width):
        scene = make_scene(task, height, width)
        if task.sound != "silent":
            clip = world.make_clip(task.seed, height, width, events=scene.events)
            films[scene.waveform.tobytes()] = clip.frames
    return films


def test_generated_clips_are_scored_kept_and_not_made_again(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("--clips", 4, "--controls", 2, "--out", out, "--set", "steps=4")
    assert _run(*command) == 0
    made = len(calls)
    assert made >= 4 + 2 + 2
    assert set(calls) <= set(world.KINDS)
    scores = json.loads((out / "scores.json").read_text())
    assert scores["made_with"]["settings"]["steps"] == 4
    # A model that does what the sound says scores as the true clips do.
    assert scores["generated"] == scores["true"]
    assert scores["picture"] == {
        "still_psnr_db": pytest.approx(138, abs=1),  # no error at all
        "flicker": 0,
        "motion_energy": 1,
    }
    assert scores["keyframes"]["longest_gap_s"] == pytest.approx(4 / 24, abs=1e-3)
    silent, swapped, shifted = (scores["controls"][s] for s in ("silent", "swapped", "shifted"))
    assert shifted["median_lag_ms"] == pytest.approx(250, abs=10)
    for measure in ("frame difference", "tracked pose"):
        assert silent["measures"][measure]["false_strikes_per_silent_clip"] == 0
        heard = swapped["measures"][measure]
        assert heard["at_ms"]["83"]["f1"] > 0.9
        assert heard["to_own_sound"]["at_ms"]["83"]["f1"] == pytest.approx(
            heard["by_coincidence"]["at_ms"]["83"]["f1"], abs=0.1
        )

    (out / "clips" / "10001.npz").unlink()
    assert _run(*command) == 0
    assert len(calls) == made + 1
    assert json.loads((out / "scores.json").read_text())["generated"] == scores["generated"]

    capsys.readouterr()
    assert _run("--clips", 4, "--out", out, "--set", "steps=5") == 2
    assert "made with other values of settings" in capsys.readouterr().err
    assert len(calls) == made + 1


def test_mistakes_are_found_before_anything_is_made(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for args, message in (
        (("--set", "solver=euler"), "solver euler"),
        (("--keyframes", "some"), "keyframes 'some'"),
        (("--bundle", "absent"), "absent"),
    ):
        assert _run("--out", out, *args) == 2
        assert message in capsys.readouterr().err
    assert not calls
    assert not out.exists()


def test_two_runs_are_compared_clip_by_clip(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert _run("--folder", folder, "--out", first) == 0
    # The second run sees nothing in two of the four clips.
    shutil.copytree(first, second)
    scores = json.loads((second / "scores.json").read_text())
    for record in scores["records"][:2]:
        record["strikes"]["tracked pose"] = []
    (second / "scores.json").write_text(json.dumps(scores))
    capsys.readouterr()
    assert _run("--compare", first, second) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " ms " in line]
    differences = {(row[0].strip("| "), row[1]): row[2:5] for row in rows}
    assert differences["42 ms", "frame difference"][2] == "+0.000"
    assert differences["83 ms", "tracked pose"] == ["1.000", "0.667", "-0.333"]


def test_runs_on_other_clips_cannot_be_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _run("--folder", folder, "--out", out) == 0
    assert _run("--compare", out, tmp_path) == 2
    assert "not the scores of a run" in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(out, other)
    text = (other / "scores.json").read_text()
    (other / "scores.json").write_text(text.replace("0.93", "0.99"))
    assert _run("--compare", out, other) == 2
    assert "score both runs on the same clips" in capsys.readouterr().err
    (other / "scores.json").write_text(json.dumps({"records": []}))
    assert _run("--compare", out, other) == 2
    assert "no clip with events in common" in capsys.readouterr().err


def test_ablations_stand_beside_the_default(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["--clips", "4", "--variant", "uniform", "--variant", "no-frame-index"]
    assert ablations.main([*command, "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert table == (out / "table.md").read_text()
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        "| default",
        "| uniform",
        "| no-frame-index",
    ]
    assert "| +0.00 (+0.00 to +0.00) |" in table  # the stand-in does what the sound says
    assert json.loads((out / "uniform" / "made-with.json").read_text())["keyframes"] == "uniform"
    assert len(calls) == 3 * 4
    assert ablations.main([*command, "--out", str(out)]) == 0
    assert len(calls) == 3 * 4


def test_ablations_keep_from_the_networks_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(Diffusion, "_sample", lambda self, unet, **inputs: seen.append(inputs))
    size = SimpleNamespace(frames=48, fps=24, keyframe_fps=6)
    stages = SimpleNamespace(bundle=SimpleNamespace(dimensions=size))
    sampling = Sampling(temporal="full")
    keyframes = np.array([0, 5, 9, 40])
    for name in ABLATIONS:
        rng = np.random.default_rng(0)
        diffusion = ABLATIONS[name](stages, sampling, {}, None, rng)
        latents = np.ones((1, 2, 1, 3, 3), np.float32)
        diffusion.generate_keyframes(latents[:, :, 0], keyframes)
        diffusion.interpolate(latents.repeat(4, axis=2), keyframes)
    (index_told, all_shown, index_true, rest_shown) = seen
    assert index_told["frame_index"].tolist() == [0, 12, 24, 36]
    assert index_told["keyframes"].tolist() == keyframes.tolist()  # the sound is its own
    assert index_true["frame_index"].tolist() == keyframes.tolist()
    for inputs, frames in ((all_shown, keyframes), (rest_shown, keyframes[1:])):
        shown = np.flatnonzero(inputs["condition"].any(axis=(0, 1, 3, 4)))
        assert shown.tolist() == frames.tolist()
