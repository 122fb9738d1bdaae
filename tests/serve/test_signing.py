"""Clips that a server signs, and keys that it keeps to itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from keyvid.provenance.credentials import Signer
from keyvid.runtime.clip import Clip
from keyvid.serve.app import make_app
from keyvid.serve.cli import main
from tests.serve.conftest import StandIn
from tests.serve.queue import Queue
from tests.serve.server import Server, running
from tests.serve.test_crew import wait_for
from tests.verify.changes import found
from tests.verify.made import DAY, Authority, made_clip

OPTIONS = ("--threads", "1", "--no-page")
VALID = "valid, signed by Signer of the tests, who is in no list of trust"


class Knowing(StandIn):
    """Makes a clip that knows how it was made."""

    def make(self, *args: Any) -> Clip:
        super().make(*args)
        return made_clip()


@pytest.fixture
def pipeline() -> Knowing:
    return Knowing()


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    """One who may sign, whose files lie in a folder `keys`."""
    (tmp_path / "keys").mkdir()
    return Authority().signer(tmp_path / "keys")


def ordered(client: TestClient, order: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A job that has ended."""
    path = client.post("/clips", **order()).headers["location"]
    while (job := client.get(path).json())["state"] in ("queued", "running"):
        pass
    answer: dict[str, Any] = job
    return answer


def test_a_clip_of_a_server_is_signed(
    queue: Queue, pipeline: Knowing, signer: Signer, order: Any, tmp_path: Path
) -> None:
    workshop = queue.workshop(pipeline, tmp_path / "jobs", signer=signer)
    with TestClient(make_app(workshop), "http://localhost") as client:
        job = ordered(client, order)
        assert job["state"] == "done", job["error"]
        (tmp_path / "clip.mp4").write_bytes(client.get(job["links"]["clip"]).content)
    findings = found(tmp_path / "clip.mp4")
    assert findings["credentials"].text == VALID
    assert {one.verdict for one in findings.values()} == {"good"}


@pytest.mark.security
def test_a_certificate_that_expires_meanwhile(
    queue: Queue, pipeline: Knowing, order: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is made that nobody signs, and clients learn nothing of where keys lie."""
    old = Authority().signer(tmp_path, valid_for=-DAY)
    workshop = queue.workshop(pipeline, tmp_path / "jobs", signer=old)
    with TestClient(make_app(workshop), "http://localhost") as client:
        job = ordered(client, order)
        assert (job["state"], job["error"]) == (
            "failed",
            "the server cannot sign clips now; order it later",
        )
        assert client.get(job["links"]["clip"]).status_code == 409
    assert f"{old.certificate}: the certificate expired on" in caplog.text
    assert not pipeline.made


@pytest.mark.security
@pytest.mark.parametrize("form", [(), ("--worker",)])
def test_who_cannot_sign_is_refused_at_the_start(
    form: tuple[str, ...], signer: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    signer.key.write_bytes(Authority().signer(signer.key.parent).key.read_bytes()[:100])
    options = [*form, "--sign", str(signer.certificate), "--key", str(signer.key)]
    assert main([*options, "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{signer.key}: holds no private key in PEM" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sign", "a.pem"], "--sign and --key go together"),
        (["--key", "a.pem"], "--sign and --key go together"),
        (["--sign", "a.pem", "--key", "b.pem", "--workers", "0"], "with --workers 0 none are made"),
    ],
)
def test_half_a_signer(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options) == 2
    assert message in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.security
def test_workers_elsewhere_sign_and_tell_nobody_the_key(
    signer: Signer, order: Any, tmp_path: Path
) -> None:
    data, store = tmp_path / "data", ("--store", f"sqlite:///{tmp_path}/shared.sqlite")
    signing = ("--sign", str(signer.certificate), "--key", str(signer.key))
    here = (*OPTIONS, *store, "--workers", "0")
    there = (*OPTIONS, *store, "--worker", *signing, "-v")
    with running(tmp_path / "log", tmp_path / "temporary", *here, data=data) as front:
        elsewhere = Server(tmp_path / "log2", tmp_path, data, *there, listens=False)
        try:
            form = order(steps="1", length="0.5")
            placed = httpx2.post(f"{front.url}/clips", **form, timeout=60).json()
            job = wait_for(front.url + placed["links"]["self"], "done", "failed")
            assert job["state"] == "done", job["error"]
            clip = httpx2.get(front.url + job["links"]["clip"]).content
            report = httpx2.get(front.url + job["links"]["report"]).text
        finally:
            elsewhere.close()
    (tmp_path / "clip.mp4").write_bytes(clip)
    assert found(tmp_path / "clip.mp4")["credentials"].text == VALID
    files = [path for path in data.rglob("*") if path.is_file()]
    told = [
        path.read_bytes() for path in (*files, *tmp_path.glob("shared*"), *tmp_path.glob("log*"))
    ]
    told += [clip, report.encode(), json.dumps(job).encode()]
    key = signer.key.read_bytes().splitlines()[1]
    assert len(files) > 3
    assert not any(key in content or b"keys/" in content for content in told)
