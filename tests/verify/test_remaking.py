"""A clip made again from its receipt, with the packaged model and few steps."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from keyvid.bundle.manifest import Bundle, find_bundle, write_manifest
from keyvid.bundle.specs import FileSpec
from keyvid.provenance.receipt import read_receipt, write_receipt
from keyvid.runtime.outputs import asked_for, make_outputs
from keyvid.runtime.pipeline import Pipeline
from keyvid.verify.cli import main
from keyvid.verify.verification import AtHand
from tests.verify.changes import found

EXAMPLES = Path(__file__).parents[2] / "examples"
INPUTS = AtHand(EXAMPLES / "drum.png", EXAMPLES / "drum.wav")
SHORT = {"steps": 1, "interpolator_steps": 1, "seed": 5, "prompt": "drum"}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a.mp4 and a.webm, made by ONNX Runtime in one step each, and a.json."""
    folder = tmp_path_factory.mktemp("clips")
    with Pipeline.load(engine="onnxruntime", threads=1) as pipeline:
        for suffix in (".mp4", ".webm"):
            make(pipeline, folder / f"a{suffix}", report=str(folder / "a.json"))
    return folder


def make(pipeline: Pipeline, output: Path, **values: Any) -> None:
    """A clip of the examples' drum."""
    given = {"image": str(INPUTS.image), "audio": str(INPUTS.audio), **SHORT, **values}
    request, outputs = asked_for({**given, "output": str(output)})
    make_outputs(outputs, pipeline.prepare(request), pipeline)


def test_same_bytes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    findings = found(folder / "a.webm", INPUTS)
    assert {one.verdict for one in findings.values()} == {"good"}
    assert findings["again"].text == "same bytes"
    assert main([str(folder / "a.mp4"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["findings"][0]["part"] == "receipt"


def test_the_receipt_names_no_file_and_the_report_has_it(folder: Path) -> None:
    text = (folder / "a.mp4").read_bytes()
    for name in (b"drum.png", b"drum.wav", str(folder).encode(), b"examples"):
        assert name not in text
    report = json.loads((folder / "a.json").read_text())
    assert report["receipt"]["seed"] == 5
    whole = report["bundle"]["files"]
    assert {n: h[:16] for n, h in whole.items()} == report["receipt"]["bundle"]["files"]


def forge(source: Path, target: Path, **values: Any) -> None:
    """A copy of a clip with another receipt, as well sealed as a true one."""
    content = source.read_bytes()
    at = content.find(b'{"receipt":1')
    _, length = json.JSONDecoder().raw_decode(content[at : at + 99_999].decode("latin-1"))
    receipt = read_receipt(content[at : at + length].decode())
    text = write_receipt(replace(receipt.making, **values), receipt.writing)
    after = content[at + length :]
    room = length + len(after) - len(after.lstrip(b" "))
    assert len(text) <= room, "else all that follows would move"
    target.write_bytes(content[:at] + text.encode().ljust(room) + content[at + room :])


def test_another_seed_in_a_receipt_that_is_sealed_again(folder: Path) -> None:
    forge(folder / "a.mp4", folder / "b.mp4", seed=6)
    assert found(folder / "b.mp4")["receipt"].verdict == "good", "by itself it does not show"
    findings = found(folder / "b.mp4", INPUTS)
    assert findings["stages"].text == "the first to make something else is generator 1"
    assert findings["again"].verdict == "bad"
    assert (
        main([str(folder / "b.mp4"), "--image", str(INPUTS.image), "--audio", str(INPUTS.audio)])
        == 3
    )


def test_another_picture(folder: Path) -> None:
    other = replace(INPUTS, image=EXAMPLES / "ball.png")
    findings = found(folder / "a.mp4", other)
    assert findings["inputs"].text == "not the receipt's: picture"
    assert findings["again"].verdict == "bad"
    assert "image_encoder" in findings["stages"].text


def test_the_other_engine(folder: Path) -> None:
    findings = found(folder / "a.mp4", replace(INPUTS, engine="openvino"))
    assert findings["engine"].text == "openvino, the receipt's is onnxruntime"
    assert findings["again"].verdict == "good"
    assert findings["again"].text.startswith("within ")


@pytest.mark.parametrize("is_told", [True, False], ids=["in bundle.json too", "in the file only"])
def test_another_weight(is_told: bool, folder: Path, tmp_path: Path) -> None:
    copytree(find_bundle("tiny"), tmp_path / "other")
    path = tmp_path / "other" / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if is_told:
        bundle = Bundle.load(tmp_path / "other", verify=False)
        files = {**bundle.files, path.name: FileSpec.of(path)}
        write_manifest(tmp_path / "other", replace(bundle, files=files))
    found_bundle = found(folder / "a.mp4", AtHand(bundle=str(tmp_path / "other")))["bundle"]
    assert found_bundle.verdict == "bad"
    assert "generator.safetensors" in found_bundle.text
    assert ("another one" in found_bundle.text) == is_told


def test_told_motion_and_another_part_of_the_inputs(tmp_path: Path) -> None:
    with Pipeline.load(engine="onnxruntime", threads=1) as pipeline:
        make(pipeline, tmp_path / "a.mp4", beats="0.5,1.2", start="0:00.25", fit="pad", end="first")
    assert found(tmp_path / "a.mp4", INPUTS)["again"].text == "same bytes"


def test_the_exit_code_tells(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = (folder / "a.mp4").read_bytes()
    (folder / "b.mp4").write_bytes(content.replace(b'"seed":5', b'"seed":6', 1))
    assert main([str(folder / "b.mp4")]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "not what its receipt says: receipt"


def test_a_resumed_clip_has_the_same_receipt(folder: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("interpolator", 0):
            raise StopError

    given = {"image": str(INPUTS.image), "audio": str(INPUTS.audio), **SHORT}
    request, outputs = asked_for({**given, "output": str(tmp_path / "a.mp4")})
    with Pipeline.load(engine="onnxruntime", threads=1) as pipeline:
        prepared = pipeline.prepare(request)
        with pytest.raises(StopError):
            make_outputs(outputs, prepared, pipeline, stop)
        make_outputs(outputs, prepared, pipeline, resume=True)
    assert (tmp_path / "a.mp4").read_bytes() == (folder / "a.mp4").read_bytes()


def test_hostile_receipts_are_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for values in (
        {"motion": "AAAA"},
        {"num_frames": 10**9},
        {"prompt": "\ud800"},
        {"keyframes": (5, 999)},
        {"beats": (1e99,)},
    ):
        forge(folder / "a.mp4", folder / "c.mp4", **values)
        options = ["--image", str(INPUTS.image), "--audio", str(INPUTS.audio)]
        assert main([str(folder / "c.mp4"), *options]) == 2
        assert "keyvid-verify: " in capsys.readouterr().err.splitlines()[-1]
