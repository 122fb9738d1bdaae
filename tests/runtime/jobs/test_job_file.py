"""Job files: each kind reads alike, and what is wrong is said with its line before the work."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyvid.errors import KeyvidError
from keyvid.runtime.jobs.job_file import Entry, Fault, read_jobs
from keyvid.runtime.request import Request
from keyvid.sampling import Settings, UNetSettings
from keyvid.vocabulary import Outputs

DEFAULTS = {"seed": 7, "start": None, "steps": None, "output": None}


@pytest.fixture
def read_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[Entry], list[Fault]]]:
    """`read_all(content, suffix)`: jobs and faults of a file of this content, all/jobs.SUFFIX."""
    monkeypatch.chdir(tmp_path)
    Path("all").mkdir()

    def write_and_read(
        content: str | bytes, suffix: str = ".jsonl", **defaults: Any
    ) -> tuple[list[Entry], list[Fault]]:
        path = Path(f"all/jobs{suffix}")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_jobs(path, {**DEFAULTS, **defaults}, "tiny")

    return write_and_read


@pytest.fixture
def read(read_all: Callable[..., tuple[list[Entry], list[Fault]]]) -> Callable[..., list[Entry]]:
    """`read(content, suffix)`: the jobs of a file without faults."""

    def without_faults(*args: Any, **defaults: Any) -> list[Entry]:
        entries, faults = read_all(*args, **defaults)
        assert not faults
        return entries

    return without_faults


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
    others.append(read_jobs(Path("all/jobs.jsonl"), DEFAULTS, "other")[0])
    assert len({entry.key, *(other.key for (other,) in others)}) == 5


GOOD = '{"image": "a.png", "audio": "a.wav"}\n'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            GOOD + '{"image": "b.png", "audio": "b.wav", "sed": 1}',
            2,
            "unknown key 'sed'; did you mean seed?",
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
    ],
)
def test_wrong_lines(
    text: str, line: int, message: str, read_all: Callable[..., tuple[list[Entry], list[Fault]]]
) -> None:
    entries, (fault,) = read_all(text)
    assert fault.line == line
    assert re.search(message, fault.error)
    assert len(fault.error.splitlines()) == 1
    others = {number for number, part in enumerate(text.split("\n"), 1) if part} - {line}
    assert {entry.line for entry in entries} == others, "the others are jobs all the same"


def test_files_without_a_job(read: Callable[..., list[Entry]]) -> None:
    for text, message in (("", "is empty"), ("\n \n", "holds no job")):
        with pytest.raises(KeyvidError, match=f"^all/jobs.jsonl: {message}"):
            read(text)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("image,audio\na.png,a.wav\nb.png,b.wav,1\n", 3, "3 cells under 2 keys"),
        ("image,audio,\na.png,a.wav,1\n", 2, "column 3 has no key, and holds '1'"),
        ("image,audio\na.png\n", 2, "audio is missing"),
        ('image,audio\n"a.png,a.wav\n', 2, "unexpected end of data"),
        ('image,audio,prompt\na.png,a.wav,"a\nb"\n', 2, "want printable characters"),
        ("image,audio,steps\na.png,a.wav,1e3\n", 2, "steps is '1e3', want a whole number"),
    ],
)
def test_wrong_rows(
    text: str, line: int, message: str, read_all: Callable[..., tuple[list[Entry], list[Fault]]]
) -> None:
    _, (fault,) = read_all(text, ".csv")
    assert fault.line == line
    assert message in fault.error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,audio,sed\na.png,a.wav,1\n", "unknown key 'sed'; did you mean seed?"),
        ("image,audio,hue\na.png,a.wav,1\n", "unknown key 'hue'; valid are image, audio, "),
        ("image,audio,image\na.png,a.wav,1\n", "key 'image' stands twice"),
        ("image,audio,Image \na.png,a.wav,1\n", "key 'image' stands twice"),
        ("a picture and a sound\n", "unknown key"),
    ],
)
def test_wrong_headings(text: str, message: str, read: Callable[..., list[Entry]]) -> None:
    with pytest.raises(KeyvidError, match=f"^all/jobs.csv, line 1: {message}"):
        read(text, ".csv")


TABLE = "image,audio,prompt,guidance_audio\na.png,a.wav,hämmer,1.5\nb.png,b.wav,,\n"
DIALECTS = {
    "as it is": TABLE.encode(),
    "a byte order mark": TABLE.encode("utf-8-sig"),
    "lines of Windows": TABLE.replace("\n", "\r\n").encode(),
    "lines of an old Mac": TABLE.replace("\n", "\r").encode(),
    "semicolons": TABLE.replace(",", ";").encode(),
    "semicolons and decimal commas": TABLE.replace(",", ";").replace("1.5", "1,5").encode(),
    "tabs": TABLE.replace(",", "\t").encode(),
    "trailing commas": TABLE.replace("\n", ",,\n").encode(),
    "capitals, spaces and dashes": TABLE.replace(
        "image,audio,prompt,guidance_audio", " Image, AUDIO ,--prompt,Guidance-Audio"
    ).encode(),
    "spaces around cells": TABLE.replace("\n", " \n").replace(",", " , ").encode(),
    "UTF-16": TABLE.encode("utf-16"),
    "UTF-16, the other way": b"\xfe\xff" + TABLE.encode("utf-16-be"),
    "Windows in the west": TABLE.encode("cp1252"),
    "a hint for spreadsheets": b"sep=;\n" + TABLE.replace(",", ";").encode(),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_as_spreadsheets_write_it(name: str, read: Callable[..., list[Entry]]) -> None:
    first, second = read(DIALECTS[name], ".csv")
    assert first.request.files == {"image": "all/a.png", "audio": "all/a.wav"}
    assert first.request.prompt == "hämmer"
    assert first.request.settings == Settings(guidance_audio=1.5)
    assert second.request.settings == Settings()
    assert (first.line, second.line) == ((3, 4) if "hint" in name else (2, 3))


def test_keys_of_json_as_help_has_them(read: Callable[..., list[Entry]]) -> None:
    text = '{"image": "a.png", "audio": "a.wav", "guidance-audio": 2}\r\n'
    assert read(text)[0].request.settings == Settings(guidance_audio=2.0)


def test_files_of_motion_are_beside_the_job_file(read: Callable[..., list[Entry]]) -> None:
    row = {"image": "a.png", "audio": "a.wav", "keyframes": "k.npy"}
    (told,) = read(json.dumps({**row, "motion": "curve.csv"}))
    assert (told.request.motion, told.request.keyframes) == ("all/curve.csv", "all/k.npy")
    (heard,) = read(json.dumps({**row, "motion": "packaged", "keyframes": "uniform"}))
    assert (heard.request.motion, heard.request.keyframes) == ("packaged", "uniform")


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyvidError, match=r"jobs.txt: want a job file that ends in"):
        read_jobs(tmp_path / "jobs.txt", {}, "tiny")
    with pytest.raises(KeyvidError, match=r"jobs.csv: No such file"):
        read_jobs(tmp_path / "jobs.csv", {}, "tiny")


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ("image,audio,steps\na.png,a.wav,9.0\n", ".csv"),
        ('image;audio;steps\na.png;a.wav;"9,00"\n', ".csv"),
        ('{"image": "a.png", "audio": "a.wav", "steps": 9.0}', ".jsonl"),
    ],
)
def test_whole_numbers_with_decimals(
    text: str, suffix: str, read: Callable[..., list[Entry]]
) -> None:
    (entry,) = read(text, suffix)
    assert entry.request.settings.steps == 9
    assert isinstance(entry.request.settings.steps, int)
