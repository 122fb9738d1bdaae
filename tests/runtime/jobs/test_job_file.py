"""Job files: each kind reads alike, and what is wrong is said with its line before the work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyvid.errors import KeyvidError
from keyvid.runtime.jobs.job_file import Entry, read_jobs
from keyvid.runtime.request import Request
from keyvid.sampling import Settings, UNetSettings
from keyvid.vocabulary import Outputs

DEFAULTS = {"seed": 7, "start": None, "steps": None, "output": None}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Entry]]:
    """`read(text, suffix)`: the jobs of a file of this content, all/jobs.SUFFIX."""
    monkeypatch.chdir(tmp_path)
    Path("all").mkdir()

    def write_and_read(text: str, suffix: str = ".jsonl", **defaults: Any) -> list[Entry]:
        path = Path(f"all/jobs{suffix}")
        path.write_bytes(text.encode())
        return read_jobs(path, {**DEFAULTS, **defaults}, "tiny")

    return write_and_read


ROW = {
    "image": "in/a.png",
    "audio": "/tmp/a.wav",
    "prompt": "a hammer, falling",
    "seed": 3,
    "output": "out/",
    "start": "0:01.5",
    "length": 4,
    "fit": "pad",
    "position": "0.5,0.2",
    "keyframes": "uniform",
    "scale": 2,
    "report": "a.json",
    "plot": "b.png",
    "steps": 9,
    "solver": "dpm",
    "interpolator_eta": 0,
}
REQUEST = Request(
    "all/in/a.png",
    "/tmp/a.wav",
    prompt="a hammer, falling",
    seed=3,
    settings=Settings(steps=9, solver="dpm", interpolator=UNetSettings(eta=0.0)),
    keyframes="uniform",
    start="0:01.5",
    length="4",
    fit="pad",
    position="0.5,0.2",
)
OUTPUTS = Outputs(output="all/out/", scale=2, report="all/a.json", plot="all/b.png")


def test_json_and_csv_say_the_same(read: Callable[..., list[Entry]]) -> None:
    (from_json,) = read("\ufeff\n" + json.dumps(ROW))
    cells = (f'"{value}"' for value in ROW.values())
    (from_csv,) = read("\ufeff" + ",".join(ROW) + "\r\n" + ",".join(cells) + "\r\n", ".csv")
    assert from_json.request == from_csv.request == REQUEST
    assert from_json.outputs == from_csv.outputs == OUTPUTS
    assert from_json.key == from_csv.key
    assert (from_json.line, from_csv.line) == (2, 2)
    assert from_json.name == "out/"


def test_what_a_job_leaves_out_is_as_for_all(read: Callable[..., list[Entry]]) -> None:
    lines = "image,audio,seed,eta\na.b.png,a.wav,,\nc.png,c.wav,1,0.5\n"
    first, second = read(lines, ".csv", steps=4)
    settings = Settings(steps=4)
    assert first.request == Request("all/a.b.png", "all/a.wav", seed=7, settings=settings)
    assert first.outputs == Outputs(output="all/a.b.mp4")
    assert second.request.settings == Settings(steps=4, eta=0.5)
    assert second.request.seed == 1


def test_a_key_is_of_all_that_a_job_says(read: Callable[..., list[Entry]]) -> None:
    text = '{"image": "a.png", "audio": "a.wav"}'
    (entry,) = read(text)
    (moved,) = read("\n" + text)
    assert moved.key == entry.key
    others = [read(text, steps=2), read(text, seed=8), read(text.replace("a.wav", "b.wav"))]
    others.append(read_jobs(Path("all/jobs.jsonl"), DEFAULTS, "other"))
    assert len({entry.key, *(other.key for (other,) in others)}) == 5


GOOD = '{"image": "a.png", "audio": "a.wav"}\n'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            GOOD + '{"image": "b.png", "audio": "b.wav", "sed": 1}',
            2,
            "unknown key 'sed'; valid are",
        ),
        (GOOD + '{"image": "b.png"}', 2, "audio is missing"),
        (GOOD + '{"image": "b.png", "audio": ""}', 2, "audio is missing"),
        (GOOD + '{"image": "-", "audio": "b.wav"}', 2, "image is -, want the name of a file"),
        (GOOD + '{"image": "b.png", "audio": "b.wav", "output": "-"}', 2, "output is -"),
        (GOOD + "\n\n[1]", 4, "want an object"),
        (GOOD + '{"image": ', 2, "Expecting value"),
        ('{"image": "a.png", "image": "b.png"}', 1, "key 'image' stands twice"),
        ('{"image": ["a.png"], "audio": "a.wav"}', 1, r"image is \['a.png'\], want a text"),
        ('{"image": "a.png", "audio": "a.wav", "steps": 1.5}', 1, "steps is 1.5, want a whole"),
        ('{"image": "a.png", "audio": "a.wav", "steps": "x"}', 1, "steps is 'x', want a whole"),
        ('{"image": "a.png", "audio": "a.wav", "seed": true}', 1, "seed is True, want a whole"),
        ('{"image": "a.png", "audio": "a.wav", "eta": NaN}', 1, "NaN is no JSON number"),
        (GOOD + GOOD, 2, "all/a.mp4 is written by line 1"),
        (
            GOOD + '{"image": "b", "audio": "c", "output": "../all/a.mp4"}',
            2,
            "is written by line 1",
        ),
        ('{"image": "a", "audio": "b", "plot": "p.png", "report": "p.png"}', 1, "by line 1"),
        (GOOD + '{"image": "b", "audio": "c", "plot": "a.png"}', 2, "overwrite .*read in line 1"),
        ("", None, "is empty"),
        ("\n \n", None, "holds no job"),
    ],
)
def test_wrong_lines(
    text: str, line: int | None, message: str, read: Callable[..., list[Entry]]
) -> None:
    where = "all/jobs.jsonl" + (f", line {line}" if line else "")
    with pytest.raises(KeyvidError, match=f"^{where}: .*{message}") as error:
        read(text)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("image,audio,sed\na.png,a.wav,1\n", 1, "unknown key 'sed'"),
        ("image,audio,image\na.png,a.wav,1\n", 1, "a key stands twice"),
        ("image,audio\na.png,a.wav\nb.png,b.wav,1\n", 3, "3 cells under 2 keys"),
        ("image,audio\na.png\n", 2, "audio is missing"),
        ('image,audio\n"a.png,a.wav\n', 2, "unexpected end of data"),
        ('image,audio,prompt\na.png,a.wav,"a\nb"\n', 3, "want printable characters"),
        ("image,audio,steps\na.png,a.wav,1e3\n", 2, "steps is '1e3', want a whole number"),
    ],
)
def test_wrong_tables(text: str, line: int, message: str, read: Callable[..., list[Entry]]) -> None:
    with pytest.raises(KeyvidError, match=f"^all/jobs.csv, line {line}: .*{message}"):
        read(text, ".csv")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyvidError, match=r"jobs.txt: want a job file that ends in"):
        read_jobs(tmp_path / "jobs.txt", {}, "tiny")
    with pytest.raises(KeyvidError, match=r"jobs.csv: No such file"):
        read_jobs(tmp_path / "jobs.csv", {}, "tiny")
    (tmp_path / "jobs.csv").write_bytes(b"image,audio\n\xff,a.wav\n")
    with pytest.raises(KeyvidError, match=r"line 1: 'utf-8' codec can't decode"):
        read_jobs(tmp_path / "jobs.csv", {}, "tiny")
