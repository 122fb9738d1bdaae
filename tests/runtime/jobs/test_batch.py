"""Many jobs in one process: a line for each, failures stop nothing, what is there stays."""

import fcntl
import json
import logging
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.engines.engine import EngineChoice
from keyvid.errors import MediaError
from keyvid.runtime.diffusion.segments import Segment, plan_segments
from keyvid.runtime.jobs import batch, cli
from keyvid.runtime.jobs.job_file import Fault
from keyvid.runtime.journal import Journal, Reel
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.request import Prepared

BROKEN: dict[int, tuple[dict[str, Any], str]] = {
    7: ({"image": "missing.png"}, "missing.png: No such file"),
    60: ({"audio": "picture.png"}, "picture.png: "),
    111: ({"keyframes": "3,1"}, "keyframe"),
    158: ({"output": "mine.mp4"}, "mine.mp4: is read-only"),
    199: ({"steps": 0}, "steps 0: want a whole number"),
}

log = logging.getLogger(__name__)


def write_jobs(num: int, **options: Any) -> None:
    """jobs.jsonl: clips of picture.png and sound.wav under names of their own, some broken."""
    Path("mine.mp4").write_bytes(b"mine")
    Path("mine.mp4").chmod(0o444)
    rows = []
    for index in range(num):
        row = {"image": "picture.png", "audio": "sound.wav", "output": f"{index}.mp4"}
        rows.append({**row, "seed": index, **options, **BROKEN.get(index, ({}, ""))[0]})
    Path("jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def results() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("jobs.jsonl.results.jsonl").read_text().splitlines()]


@pytest.fixture
def made(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds that clips were made with, without networks; all checks are the real ones."""
    seeds: list[int] = []

    def animate(
        self: Pipeline, stages: object, prepared: Prepared, reel: Reel
    ) -> tuple[np.ndarray, list[Segment]]:
        inputs = prepared.inputs
        seeds.append(prepared.seed)
        reel.add(0, np.repeat(inputs.picture[np.newaxis], inputs.num_frames, axis=0))
        motion = np.linspace(0, 1, inputs.num_frames, dtype=np.float32)
        return motion, plan_segments(inputs.num_frames, motion, self.bundle.dimensions)

    def load(**loading: Any) -> Pipeline:
        return Pipeline(Bundle.load("hollow"), EngineChoice("onnxruntime", "asked for"))

    monkeypatch.setattr(Pipeline, "load", load)
    monkeypatch.setattr(Pipeline, "_animate", animate)
    return seeds


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Resident bytes of this process after each job."""
    seen: list[int] = []
    make = batch.run_entry

    def measured(*args: Any) -> batch.Outcome:
        outcome = make(*args)
        seen.append(psutil.Process().memory_info().rss)
        return outcome

    monkeypatch.setattr(batch, "run_entry", measured)
    return seen


def check_soak(memory: list[int], messages: str) -> None:
    """What has to come of 200 jobs of `write_jobs`."""
    rows = results()
    assert [row["line"] for row in rows] == list(range(1, 201))
    failed = {row["line"] - 1: row["error"] for row in rows if "error" in row}
    assert failed.keys() == BROKEN.keys()
    for index, error in failed.items():
        assert BROKEN[index][1] in error
        assert f"{index + 1} of 200" in messages
    clips = [index for index in range(200) if index not in BROKEN]
    assert all(Path(f"{index}.mp4").stat().st_size > 1_000 for index in clips)
    assert not any(Path(f"{index}.mp4").exists() for index in BROKEN)
    assert Path("mine.mp4").read_bytes() == b"mine"
    assert not list(Path().glob(".*"))
    assert memory[199] < 1.05 * memory[19]
    log.info("after 20 jobs %.0f MB, after 200 %.0f MB", memory[19] / 1e6, memory[199] / 1e6)


@pytest.mark.long
def test_200_jobs(made: list[int], memory: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    write_jobs(200, length=0.1)
    assert cli.main(["--jobs", "jobs.jsonl"]) == 2
    printed = capsys.readouterr()
    check_soak(memory, printed.err)
    assert len(made) == 195
    assert printed.out.splitlines() == [f"{i}.mp4" for i in range(200) if i not in BROKEN]
    assert printed.err.splitlines()[-1] == (
        "keyvid-infer: 5 of 200 jobs failed, see jobs.jsonl.results.jsonl; the same command tries "
        "them again"
    )


@pytest.mark.slow
def test_200_jobs_of_the_packaged_model(
    workplace: Path, memory: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(200)
    options = ["--steps", "1", "--interpolator-steps", "1", "--threads", "1"]
    assert cli.main(["--jobs", "jobs.jsonl", *options]) == 2
    check_soak(memory, capsys.readouterr().err)


def test_results_that_no_longer_fit(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "results.jsonl"
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with (
            pytest.raises(MediaError, match=r"results.jsonl: cannot be written: "),
            batch.Results(path) as full,
        ):
            full.add_fault(Fault(1, "no such picture"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with batch.Results(path) as results:
        results.add_fault(Fault(2, "none either"))
    cut_off, second = path.read_text().splitlines()
    assert len(cut_off) == 10
    assert json.loads(second)["line"] == 2


def test_a_second_start_does_what_is_missing_or_failed(
    made: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(8, length=0.1)
    assert cli.main(["--jobs", "jobs.jsonl"]) == 2
    made.clear()
    capsys.readouterr()
    Path("3.mp4").unlink()
    Path("picture.png").rename("missing.png")  # job 7 finds its picture now, and job 3 none
    assert cli.main(["--jobs", "jobs.jsonl"]) == 2
    assert made == [7]
    lines = [line for line in capsys.readouterr().err.splitlines() if "used from" not in line]
    there, first, second, _ = lines
    assert there == "jobs.jsonl: 6 of 8 clips made before"
    assert re.fullmatch(r"1 of 2, \d+ s left: 3.mp4 failed: picture.png: No such file.*", first)
    assert re.fullmatch(r"2 of 2: 7.mp4 in \d+ s", second)
    Path("missing.png").rename("picture.png")
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    assert made == [7, 3]
    assert [row["line"] for row in results()] == [*range(1, 9), 4, 8, 4]
    capsys.readouterr()
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    assert capsys.readouterr() == ("", "jobs.jsonl: 8 clips, all made before\n")
    assert cli.main(["--jobs", "jobs.jsonl", "--eta", "0.5"]) == 2, (
        "other clips; one has no picture"
    )
    assert made[2:] == list(range(7))


def test_a_line_that_was_cut_off(made: list[int]) -> None:
    write_jobs(2, length=0.1)
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    whole = Path("jobs.jsonl.results.jsonl").read_bytes()
    Path("jobs.jsonl.results.jsonl").write_bytes(whole[:-9])
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    assert made == [0, 1, 1]
    first, cut, again = Path("jobs.jsonl.results.jsonl").read_bytes().splitlines()
    assert first + b"\n" + cut == whole[:-9]
    assert json.loads(again)["line"] == 2


def test_errors_of_ours_are_lines_too(made: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    write_jobs(3, length=0.1)
    make = batch.make_outputs
    errors: Iterator[Exception] = iter([ValueError("odd\nmore"), MemoryError("1 TB")])

    def fail_twice(*args: Any, **options: Any) -> object:
        for error in errors:
            raise error
        return make(*args, **options)

    monkeypatch.setattr(batch, "make_outputs", fail_twice)
    assert cli.main(["--jobs", "jobs.jsonl"]) == 2
    first, second, third = results()
    assert first["error"].startswith("unexpected ValueError: odd; please report it")
    assert second["error"] == "not enough memory: 1 TB"
    assert "error" not in third


def test_an_interruption_says_how_many_are_there(
    made: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(3, length=0.1)
    animate = Pipeline._animate

    def interrupted(self: Pipeline, *args: Any) -> Any:
        if len(made) == 1:
            raise KeyboardInterrupt
        return animate(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_animate", interrupted)
        assert cli.main(["--jobs", "jobs.jsonl"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "keyvid-infer: interrupted, 1 of 3 clips made, the same command makes the rest"
    )
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    assert made == [0, 1, 2]


def test_a_long_clip_is_gone_on_with(
    made: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal that is there is used without being asked for, one that is not is not missed."""
    write_jobs(1, length=3)
    resumes = []

    def remembered(folder: Path, *, resume: bool) -> Any:
        resumes.append(resume)
        return Journal(folder, resume=resume)

    monkeypatch.setattr("keyvid.runtime.outputs.Journal", remembered)
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    Path("0.mp4").unlink()
    Path(".0.mp4.parts").mkdir()
    assert cli.main(["--jobs", "jobs.jsonl"]) == 0
    assert resumes == [False, True]


def test_two_processes_at_once(made: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    write_jobs(1, length=0.1)
    with open("jobs.jsonl.results.jsonl", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cli.main(["--jobs", "jobs.jsonl"]) == 2
    assert "another process works on these jobs" in capsys.readouterr().err
    assert not made


@pytest.mark.parametrize(
    "arguments",
    [["picture.png", "sound.wav"], ["-o", "a.mp4"], ["--report", "a.json"], ["--plot", "a.png"]],
)
def test_names_of_one_clip_are_refused(
    arguments: list[str], made: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(1)
    assert cli.main(["--jobs", "jobs.jsonl", *arguments]) == 2
    assert "into the job file" in capsys.readouterr().err


def test_a_wrong_line_keeps_no_other_from_being_made(
    made: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(2, length=0.1)
    with open("jobs.jsonl", "a") as file:
        file.write('{"image": "picture.png", "audio": "sound.wav", "step": 1}\n')
    assert cli.main(["--jobs", "jobs.jsonl"]) == 2
    printed = capsys.readouterr().err
    assert "jobs.jsonl, line 3: unknown key 'step'" in printed
    assert "1 of 3 jobs failed" in printed
    assert made == [0, 1]
    assert [(row["line"], "error" in row) for row in results()] == [
        (3, True),
        (1, False),
        (2, False),
    ]


def test_ray_is_asked_for_in_words(
    made: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jobs(1)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "keyvid.runtime.jobs.ray_workers", raising=False)
    assert cli.main(["--jobs", "jobs.jsonl", "--ray"]) == 2
    assert capsys.readouterr().err == ("keyvid-infer: --ray needs Ray; pip install 'keyvid[ray]'\n")
    assert cli.main(["picture.png", "sound.wav", "--ray"]) == 2
    assert "--ray needs --jobs" in capsys.readouterr().err
