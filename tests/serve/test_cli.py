"""`keyvid-serve`: what it refuses, and a clip of the packaged model."""

import json
import socket
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Settings
from keyvid.serve.app import make_app
from keyvid.serve.cli import main
from keyvid.serve.workplace import workplace
from tests.serve.conftest import EXAMPLES
from tests.serve.queue import Queue
from tests.serve.server import Server, running


@pytest.mark.parametrize("module", ["uvicorn", "fastapi_offline"])
def test_what_is_not_installed_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main([]) == 2
    error = capsys.readouterr().err
    assert f"serving needs {module}, which cannot be imported" in error
    assert "pip install 'keyvid[serve]'" in error
    assert error.count("\n") == 1


@pytest.mark.security
def test_an_empty_token_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would let everybody in."""
    empty = tmp_path / "token"
    empty.write_text(" \n")
    assert main(["--token-file", str(empty)]) == 2
    assert f"{empty}: the token is empty" in capsys.readouterr().err
    assert main(["--token-file", str(tmp_path / "nowhere")]) == 2
    assert "cannot be read as a token" in capsys.readouterr().err
    monkeypatch.setenv("KEYVID_TOKEN", "")
    assert main([]) == 2
    assert "KEYVID_TOKEN: the token is empty" in capsys.readouterr().err


@pytest.mark.security
def test_no_token_stands_in_the_list_of_processes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--token", "secret"]) == 2
    assert "--token-file" in capsys.readouterr().err


@pytest.mark.security
def test_the_token_of_a_file_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    options = ["--token-file", str(tmp_path / "token"), "--threads", "1"]
    with running(tmp_path / "log", tmp_path / "temporary", *options) as server:
        assert httpx2.get(f"{server.url}/model").status_code == 401
        allowed = {"authorization": "Bearer secret"}
        assert httpx2.get(f"{server.url}/model", headers=allowed).status_code == 200
        foreign = {**allowed, "host": "evil.example"}
        assert httpx2.get(f"{server.url}/model", headers=foreign).status_code == 421


def test_the_log_is_a_line_a_request_and_a_job(
    tmp_path: Path, order: Callable[..., dict[str, Any]]
) -> None:
    (tmp_path / "tokens").write_text(f"anna {'a' * 16}\n")
    options = ["--tokens", str(tmp_path / "tokens"), "--log-format", "json", "--threads", "1"]
    with running(tmp_path / "log", tmp_path / "temporary", *options) as server:
        allowed = {"authorization": f"Bearer {'a' * 16}"}
        placed = httpx2.post(f"{server.url}/clips", **order(steps="1"), headers=allowed).json()
        httpx2.get(f"{server.url}/a%0ab?token=c", headers={"x-forwarded-for": "192.0.2.7"})
        httpx2.get(f"{server.url}/healthz")
        while not (jobs := [line for line in lines_of(server) if line["event"] == "job"]):
            time.sleep(0.1)
        server.process.terminate()
        assert server.process.wait(20) == 0
        lines = lines_of(server)
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["client"], line["path"], line["status"]) for line in requests] == [
        ("anna", "/clips", 202),
        ("192.0.2.7", "/a%0ab", 401),
    ]
    assert requests[0]["address"] == "127.0.0.1"
    assert [(job["id"], job["state"]) for job in jobs] == [(placed["id"], "done")]
    assert jobs[0]["seconds"] > 0
    assert jobs[0]["waited"] >= 0
    for line in lines:
        assert abs(datetime.fromisoformat(line["time"]).timestamp() - time.time()) < 60
    assert lines[-1]["event"] == "stopped"


def lines_of(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log.splitlines()]


@pytest.mark.security
@pytest.mark.parametrize(
    ("options", "is_warned"),
    [
        (["--host", "0.0.0.0"], True),
        (["--host", "::"], True),
        (["--host", "192.168.1.9"], True),
        (["--host", "localhost"], False),
        (["--host", "::1"], False),
        (["--host", "0.0.0.0", "--token-file", "token"], False),
    ],
)
def test_a_server_open_to_all_says_so(
    options: list[str],
    is_warned: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("secret")
    assert main([*options, "--bundle", "nowhere"]) == 2
    assert ("there is no token: whoever reaches this port" in capsys.readouterr().err) == is_warned


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--root-path", "keyvid"], "want a path that begins with /"),
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
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


def test_folders_of_killed_servers_are_swept(tmp_path: Path) -> None:
    left = tmp_path / "keyvid-serve-killed.tmp"
    left.mkdir()
    (left / "clip.mp4").touch()
    with workplace(tmp_path) as first:
        with workplace(tmp_path) as second:
            assert {*tmp_path.iterdir()} == {first, second}
        assert [*tmp_path.iterdir()] == [first]
    assert not [*tmp_path.iterdir()]


def test_a_clip_of_the_packaged_model(queue: Queue, tmp_path: Path) -> None:
    with Pipeline.load(threads=1) as pipeline:
        workshop = queue.workshop(pipeline, tmp_path / "jobs")
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
