"""The command keyvid-score: folders, result files, comparison, mistakes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from keyvid.score.command import cli
from tests.score.squares import EVENTS, PLACES, draw_square


def _write_video(path: Path, frames: np.ndarray, fps: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos: a contact and a change at each frame rate, in three containers."""
    folder = tmp_path_factory.mktemp("videos")
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


@pytest.fixture
def folder(videos: Path, tmp_path: Path) -> Path:
    """The four videos, to be changed."""
    return Path(shutil.copytree(videos, tmp_path / "mine"))


def run(*args: object) -> int:
    return cli.main([str(arg) for arg in args])


def test_a_folder_of_videos_is_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, plot = tmp_path / "scores.json", tmp_path / "motion.png"
    assert run(folder, "--json", result, "--plot", plot) == 0
    content = json.loads(result.read_text())
    assert (content["scores"]["clips"], content["scores"]["events"]) == (4, 12)
    pose = content["scores"]["by"]["tracked pose"]
    assert [at["f1"] for at in pose["at_ms"].values()] == [1, 1, 1]
    assert abs(pose["median_error_ms"]) < 10
    assert pose["false_strikes"] is None
    table = capsys.readouterr().out
    assert "12 events in 4 clips; 0 clips without events." in table
    (row,) = [line for line in table.splitlines() if line.startswith("| 42 ms  | tracked pose")]
    assert "1.00 (1.00 to 1.00)" in row
    assert "| square change  | change  | 2     | 6      |" in table
    assert len({len(line) for line in table.split("\n\n")[1].splitlines()}) == 1
    with Image.open(plot) as page:
        assert page.width > 1000
        colours = {colour for _, colour in page.getcolors(1 << 20)}
        assert (31, 95, 139) in colours  # the curves


def test_seconds_are_enough_and_clips_without_events_tell_of_false_strikes(
    folder: Path, tmp_path: Path
) -> None:
    for path in folder.glob("[bcd].*"):
        path.unlink()
    (folder / "a.json").write_text('{"events_s": []}')
    assert run(folder, "--json", tmp_path / "scores.json") == 0
    content = json.loads((tmp_path / "scores.json").read_text())
    (clip,) = content["clips"]
    assert (clip["kind"], clip["event"]) == ("clip", "contact")
    pose = content["scores"]["by"]["tracked pose"]
    assert (pose["at_ms"], pose["median_error_ms"], pose["false_strikes"]) == ({}, None, 3)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, "has no a.json beside it"),
        ("{", "a.json: cannot be read"),
        ("[" * 100_000, "a.json: cannot be read"),
        ('{"events": [1]}', "events_s is None; want a list of seconds"),
        ('{"events_s": [0.5, "1"]}', "want a list of seconds"),
        ('{"events_s": [0.5, NaN]}', "want a list of seconds"),
        ('{"events_s": [0.5, 1' + 400 * "0" + "]}", "want a list of seconds"),
        ('{"events_s": [0.5, 3.5]}', "event at 3.5 s, but the video lasts 2.00 s"),
        ('{"events_s": [0.5], "event": "bang"}', "event is 'bang'; want contact or change"),
        ('{"events_s": [0.5], "event": []}', "event is []; want contact or change"),
        ('{"events_s": [0.5], "kind": 3}', "kind is 3; want a text"),
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
    assert run(folder, "--json", tmp_path / "scores.json") == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.splitlines()[-1].startswith("keyvid-score: 1 of 4 videos skipped")
    assert "9 events in 3 clips" in printed.out
    scored = json.loads((tmp_path / "scores.json").read_text())
    assert [clip["name"] for clip in scored["clips"]] == ["b", "c", "d"]


def test_folders_without_videos_and_files_that_are_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nowhere") == 2
    assert "is not a folder" in capsys.readouterr().err
    assert run(tmp_path) == 2
    assert "holds no video" in capsys.readouterr().err
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    (tmp_path / "a.json").write_text('{"events_s": []}')
    assert run(tmp_path) == 2
    printed = capsys.readouterr()
    assert "a.mp4: not a video that can be read" in printed.err
    assert "has 1 video, of which none can be scored, see above" in printed.err
    assert printed.out == ""


def differences(table: str) -> dict[tuple[str, str], list[str]]:
    """F1 of A, of B and B - A by tolerance and measure."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    return {(row[1], row[2]): row[3:6] for row in rows if len(row) > 5 and " ms" in row[1]}


def test_two_results_are_compared_clip_by_clip(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    assert run(folder, "--json", first) == 0
    # The second saw nothing in two of the four clips.
    content = json.loads(first.read_text())
    for clip in content["clips"][:2]:
        clip["strikes"]["tracked pose"] = []
    second.write_text(json.dumps(content))
    capsys.readouterr()
    assert run("compare", first, second) == 0
    seen = differences(capsys.readouterr().out)
    assert seen["42 ms", "frame difference"][2] == "+0.000"
    assert seen["83 ms", "tracked pose"] == ["1.000", "0.667", "-0.333"]
    assert run("compare", folder, second) == 0  # a folder and a result of the same clips
    assert differences(capsys.readouterr().out) == seen


def test_other_clips_cannot_be_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, other = tmp_path / "scores.json", tmp_path / "other.json"
    assert run(folder, "--json", result) == 0
    for content, message in (
        (None, "other.json: does not exist; give a folder of videos"),
        ("[]", "not a result of keyvid-score"),
        ('{"clips": [{"name": "a"}]}', "not a result of keyvid-score (KeyError: 'strikes')"),
        (result.read_text().replace("0.93", "0.99"), "compare two versions of the same clips"),
        ('{"clips": []}', "no clip with events in common"),
    ):
        if content is not None:
            other.write_text(content)
        assert run("compare", result, other) == 2
        assert message in capsys.readouterr().err


def test_a_folder_of_the_same_name_as_the_command_has_a_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.move(folder, folder.with_name("compare"))
    monkeypatch.chdir(folder.parent)
    assert run("./compare") == 0


BLOCK = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
from keyvid.score.command.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run_without(names: tuple[str, ...], *args: object) -> subprocess.CompletedProcess[str]:
    """The command in a process in which these packages are not installed."""
    command = [sys.executable, "-c", BLOCK.format(names=names), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_no_network_and_no_engine_is_needed(folder: Path) -> None:
    names = ("torch", "keyvid_ref", "onnx", "onnxruntime", "openvino", "tokenizers", "soundfile")
    done = run_without(names, folder)
    assert done.returncode == 0, done.stderr
    assert "12 events in 4 clips" in done.stdout


def test_without_scipy_one_line_says_what_to_install(folder: Path) -> None:
    for args in ((folder,), ("compare", folder, folder)):
        done = run_without(("scipy",), *args)
        assert done.returncode == 2
        assert done.stderr.strip().endswith("pip install 'keyvid[score]'")
        assert done.stderr.count("\n") == 1
    assert run_without(("scipy",), "--help").returncode == 0


def _write_with_sound(path: Path, fps: int = 24) -> None:
    """A contact at each event and a click at each."""
    frames = draw_square(PLACES["contact"](np.arange(2 * fps) / fps), 120, 160)
    sound = np.zeros((1, 32_000), np.float32)
    for event in EVENTS:
        sound[0, round(event * 16_000) :][:400] = 0.3
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=fps)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.bit_rate = "yuv420p", 4_000_000
        audio = container.add_stream("pcm_f32le", rate=16_000, layout="mono")
        for image in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        heard = av.AudioFrame.from_ndarray(sound, format="flt", layout="mono")
        heard.sample_rate = 16_000
        container.mux(audio.encode(heard))
        for stream in (video, audio):
            container.mux(stream.encode(None))


def test_av_align_takes_clips_without_facts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three onsets; a contact has a peak of motion before it and one after it."""
    _write_with_sound(tmp_path / "unknown.mkv")
    assert run(tmp_path) == 2  # no facts: the other measures know no events
    result = tmp_path / "result.json"
    assert run(tmp_path, "--av-align", "--json", result, "--plot", tmp_path / "none.png") == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if "unknown" in line]
    assert row.split("|")[2].strip() == "3"
    assert 0 <= json.loads(result.read_text())["av_align"]["unknown"] <= 0.5
    assert not (tmp_path / "none.png").exists()  # nothing to show


def test_av_align_stands_beside_the_other_measures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write_with_sound(tmp_path / "known.mkv")
    (tmp_path / "known.json").write_text(json.dumps({"events_s": EVENTS.tolist()}))
    assert run(tmp_path, "--av-align") == 0
    table = capsys.readouterr().out
    assert "3 events in 1 clip;" in table
    assert "AV-Align" in table


def test_av_align_wants_a_sound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--av-align") == 2
    assert "sound" in capsys.readouterr().err
