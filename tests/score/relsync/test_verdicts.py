"""RelSync: frames as the release prepares them, excerpts of films, known scores, mistakes."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from keyvid.errors import MediaError
from keyvid.runtime.media.sound import Sound
from keyvid.runtime.media.video import write_video
from keyvid.score.command import cli
from keyvid.score.relsync.excerpts import Span, choose_starts, read_excerpts
from keyvid.score.relsync.pixels import prepare_frames, shrink_frames
from keyvid.score.relsync.verdicts import relsync, shift_sound
from keyvid_ref.avsync import prepare_frames as reference_frames

SPAN = Span(12, 6)
RATE = 16_000
STEEPNESS = 10.0  # of the fake judge: score per second that picture and sound are apart


class FakeJudge:
    """Knows when the picture flashes and when the sound clicks; no networks."""

    span: ClassVar[Span] = SPAN
    engine: ClassVar[str] = "none"

    def __init__(self, *_: object) -> None:
        pass

    def look(self, films):
        return np.array([[film.mean(axis=(1, 2, 3)).argmax() / SPAN.fps] for film in films])

    def hear(self, waveforms):
        return np.array([[np.abs(waveform).argmax() / RATE] for waveform in waveforms])

    def score(self, audio, video):
        assert audio.shape == video.shape
        return -STEEPNESS * np.abs(audio - video)[:, 0]

    def close(self):
        pass


def write_film(path: Path, flash: float, click: float, seconds: float = 2.0, fps: int = 24) -> None:
    """A film that flashes for a sixth of a second and clicks once."""
    times = np.arange(round(seconds * fps)) / fps
    lit = (times > flash - 1e-6) & (times < flash + 1 / 6 - 1e-6)
    frames = np.broadcast_to(np.where(lit, 230, 20)[:, None, None, None], (len(times), 48, 64, 3))
    sound = 0.01 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    sound[round(click * RATE) :][:40] = 0.9
    write_video(path, frames.astype(np.uint8), fps, Sound(sound[:, None].astype(np.float32), RATE))


@pytest.fixture
def films(tmp_path, monkeypatch):
    """Two films, of which one flashes 1/3 s late, and the true ones."""
    for folder in ("mine", "true"):
        (tmp_path / folder).mkdir()
    write_film(tmp_path / "mine" / "good.mp4", flash=1, click=1)
    write_film(tmp_path / "mine" / "late.mp4", flash=1 + 1 / 3, click=1)
    for name in ("good", "late", "more"):
        write_film(tmp_path / "true" / f"{name}.webm", flash=1, click=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keyvid.score.relsync.judge.Judge", FakeJudge)
    return tmp_path


def run(capsys, *args: object) -> tuple[int, str, str]:
    code = cli.main(["relsync", "--bundle", "tiny", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def softmax(reference: float, score: float) -> float:
    return 100 / (1 + np.exp(reference - score))


def test_frames_are_prepared_as_released(fill, parity, relative_error):
    pixels = 1 / (1 + np.exp(-fill.tensor("avsync:pixels", (2, 3, 48, 80))))
    # The fixture's pixels are no whole numbers; the judge is shown bytes.
    prepared = prepare_frames(255 * pixels.transpose(0, 2, 3, 1), 224, 224)
    want = parity("avsync")["prepared_every_16th"]
    assert relative_error(prepared.transpose(1, 0, 2, 3)[:, :, ::16, ::16], want) < 1e-5


@pytest.mark.parametrize("shape", [(320, 512), (90, 60), (224, 224)])
def test_frames_of_all_shapes_are_prepared_as_by_the_reference(relative_error, shape):
    frames = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    want = reference_frames(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255, 224, 224)
    # torch has the weights of pixels in float32 only: 1.3e-5 measured.
    assert relative_error(prepare_frames(frames, 224, 224).transpose(1, 0, 2, 3), want) < 5e-5
    assert shrink_frames(frames, 16).shape == (2, 16, 16, 3)


def test_relsync_is_the_released_one(parity, relative_error):
    want = parity("avsync")
    got = relsync(want["score_swapped_sound"], want["score"])
    assert relative_error(got, want["relsync"]) < 1e-6


def test_a_shifted_sound_comes_in_again_at_the_other_end():
    waveform = np.arange(32_000, dtype=np.float32)
    later = shift_sound(waveform, 42)
    assert (later[672], later[671]) == (0, 31_999)
    assert np.array_equal(shift_sound(later, -42), waveform)


@pytest.mark.parametrize(
    ("duration", "starts"),
    [(1.97, [0]), (2, [0]), (2.4, [0]), (2.6, [0, 0.6]), (3, [0, 0.5, 1]), (10, [0, 4, 8])],
)
def test_excerpts_are_spread_over_a_film(duration, starts):
    assert choose_starts(duration, 2, 3) == pytest.approx(starts)


@pytest.mark.parametrize("fps", [6, 10, 24, 30])
def test_excerpts_show_what_is_seen_at_their_times(tmp_path, fps):
    write_film(tmp_path / "a.mp4", flash=2.5, click=2.5, seconds=4, fps=fps)
    excerpts = read_excerpts(tmp_path / "a.mp4", None, SPAN, 3)
    assert [excerpt.start for excerpt in excerpts] == [0, 1, 2]
    for excerpt in excerpts[1:]:
        assert excerpt.frames.shape == (12, 48, 64, 3)
        flash = excerpt.frames.mean(axis=(1, 2, 3)).argmax() / SPAN.fps + excerpt.start
        assert flash == pytest.approx(2.5, abs=1 / fps)
        click = np.abs(excerpt.waveform).argmax() / RATE + excerpt.start
        assert click == pytest.approx(2.5, abs=0.005)
    assert excerpts[0].frames.max() < 60
    (small, *_) = read_excerpts(tmp_path / "a.mp4", None, SPAN, 3, first_size=32)
    assert small.frames.shape == (12, 32, 32, 3)


def test_films_are_scored_against_true_ones(films, capsys):
    code, table, _ = run(
        capsys, "mine", "--reference", "true", "--json", "scores.json", "--plot", "plot.png"
    )
    assert code == 0
    content = json.loads((films / "scores.json").read_text())
    scores = content["relsync"]
    assert (scores["films"], scores["excerpts"]) == (2, 2)
    late = softmax(0, -STEEPNESS / 3)
    assert scores["by_shift"]["0"]["mean"] == pytest.approx((50 + late) / 2, abs=0.5)
    low, high = scores["by_shift"]["0"]["interval"]
    assert (low, high) == pytest.approx((late, 50), abs=0.5)
    # The true films, 167 ms off in either direction, against themselves.
    true = scores["true_sensitivity"]["167"]
    assert true["relsync"]["mean"] == pytest.approx(softmax(0, -1.67), abs=0.5)
    assert (true["preferred"], scores["sensitivity"]["167"]["preferred"]) == (1, 0.75)
    assert content["protocol"]["frames"] == 12
    assert "2 excerpts of 2 films." in table
    assert "| as it is           | 26.7" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 5 + 2 + 4
    with Image.open(films / "plot.png") as page:
        colours = {colour for _, colour in page.getcolors(1 << 20)}
        assert {(31, 95, 139), (209, 73, 91)} <= colours  # a curve for each side


def test_without_true_films_the_same_frames_with_other_sounds_are_the_reference(films, capsys):
    code, table, _ = run(capsys, "true", "--json", "scores.json")
    assert code == 0
    scores = json.loads((films / "scores.json").read_text())["relsync"]
    assert scores["by_shift"] is scores["true_sensitivity"] is None
    means = [of["relsync"]["mean"] for of in scores["sensitivity"].values()]
    assert means == pytest.approx([softmax(0, -ms / 100) for ms in (42, 83, 167, 333)], abs=0.5)
    assert len([line for line in table.splitlines() if line.startswith("|")]) == 2 + 4


def silent(path: Path) -> None:
    frames = np.zeros((48, 48, 64, 3), np.uint8)
    write_video(path, frames, 24, Sound(np.zeros((2 * RATE, 1), np.float32), RATE))


def one_frame(path: Path) -> None:
    sound = Sound(np.ones((2 * RATE, 1), np.float32), RATE)
    write_video(path, np.zeros((1, 48, 64, 3), np.uint8), 24, sound)


def no_picture(path: Path) -> None:
    soundfile.write(path.with_suffix(".wav"), np.ones(2 * RATE), RATE)
    path.with_suffix(".wav").rename(path)


def no_sound(path: Path) -> None:
    frames = np.zeros((48, 48, 64, 3), np.uint8)
    write_video(path.with_suffix(".gif"), frames, 24, Sound(np.zeros((2 * RATE, 1)), RATE))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (silent, "bad.mp4: silent from 0 s to 2 s, so nothing can fit; leave it out"),
        (one_frame, "bad.mp4: 1 frame at times that do not all ascend; want a film, at least"),
        (no_picture, "bad.mp4: holds no picture; give a film"),
        (no_sound, "bad.gif: "),
        (lambda p: write_film(p, 0.5, 0.5, 1.5), "bad.mp4: lasts 1.50 s, the judge takes 2 s"),
        (lambda p: p.write_bytes(b"nothing"), "bad.mp4: not a video that can be read"),
    ],
)
def test_bad_films_are_told_in_a_line(films, capsys, write, message):
    write(films / "mine" / "bad.mp4")
    code, out, error = run(capsys, "mine", "--json", "scores.json")
    assert (code, out) == (2, "")
    (line,) = [line for line in error.splitlines() if line.startswith("keyvid-score relsync: ")]
    assert message in line
    assert "Traceback" not in error
    assert not (films / "scores.json").exists()


def test_mistakes_in_the_command_are_told(films, capsys):
    for args, message in (
        (["nowhere"], "nowhere: is not a folder"),
        (["true", "--reference", "mine"], "true/more.webm: mine holds no film called more"),
        (["mine", "--bundle", "nowhere"], "nowhere: no such folder"),
        (["mine", "--plot", "a.gif"], ".png"),
    ):
        code, _, error = run(capsys, *args)
        assert code == 2
        assert message in error


def test_a_true_film_of_another_length_is_refused(films):
    write_film(films / "true" / "good.webm", 0.5, 0.5, seconds=1)
    with pytest.raises(MediaError, match=r"true/good.webm: lasts 1.00 s"):
        read_excerpts(films / "mine" / "good.mp4", films / "true" / "good.webm", SPAN, 3)
