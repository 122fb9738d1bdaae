"""`keyvid-serve`: what it refuses, and a clip of the packaged model."""

import socket
import sys
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Settings
from keyvid.serve.app import make_app
from keyvid.serve.cli import main
from keyvid.serve.limits import Limits
from keyvid.serve.metrics import Metrics
from keyvid.serve.workplace import workplace
from keyvid.serve.workshop import Workshop
from tests.serve.conftest import EXAMPLES


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        ("gradio", [], "pip install 'keyvid[serve]', or leave the page out with --no-page"),
        ("uvicorn", ["--no-page"], "serving needs uvicorn, which cannot be imported"),
    ],
)
def test_what_is_not_installed_is_named(
    module: str,
    args: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--token", " "], "the token is empty"),
        (["--queue", "0"], "--queue"),
        (["--max-upload", "many"], "no size"),
        (["--bundle", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-page", *args]) == 2
    assert message in capsys.readouterr().err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--no-page", "--port", str(port)]) == 2
    assert f"cannot listen at 127.0.0.1 port {port}" in capsys.readouterr().err


def test_folders_of_killed_servers_are_swept(tmp_path: Path) -> None:
    left = tmp_path / "keyvid-serve-killed.tmp"
    left.mkdir()
    (left / "clip.mp4").touch()
    with workplace(tmp_path) as first:
        with workplace(tmp_path) as second:
            assert {*tmp_path.iterdir()} == {first, second}
        assert [*tmp_path.iterdir()] == [first]
    assert not [*tmp_path.iterdir()]


def test_a_clip_of_the_packaged_model(tmp_path: Path) -> None:
    with Pipeline.load(threads=1) as pipeline:
        workshop = Workshop(pipeline, Limits(), tmp_path, Metrics())
        with TestClient(make_app(workshop), "http://localhost") as client:
            files = {
                "image": (EXAMPLES / "drum.png").read_bytes(),
                "audio": (EXAMPLES / "drum.wav").read_bytes(),
            }
            links = client.post("/clips", files=files, data={"steps": "1"}).json()["links"]
            while (job := client.get(links["self"]).json())["state"] in ("queued", "running"):
                time.sleep(0.1)
            assert job["state"] == "done", job["error"]
            report = client.get(links["report"]).json()
            served = client.get(links["clip"]).content
        direct = pipeline(
            *(EXAMPLES / f"drum.{kind}" for kind in ("png", "wav")), settings=Settings(steps=1)
        )
    assert report["keyframes"] == direct.keyframes.tolist()
    direct.save(tmp_path / "direct.mp4")
    assert served == (tmp_path / "direct.mp4").read_bytes()
