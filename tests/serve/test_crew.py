"""Workers that crash, hang, are told to end, and stores that are locked or damaged."""

import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from keyvid.serve.cli import main
from keyvid.serve.crew import StepWatch
from keyvid.serve.job_folder import JobProgress
from keyvid.serve.scheduling import Patience
from tests.serve.conftest import EXAMPLES
from tests.serve.drawn_worker import CRASHES, HANGS
from tests.serve.server import DRAWN, Server, running

OPTIONS = ("--threads", "1", "--no-page")


def post(server: Server, **values: str) -> httpx2.Response:
    kinds = (("image", "png"), ("audio", "wav"))
    files = {kind: (EXAMPLES / f"drum.{end}").read_bytes() for kind, end in kinds}
    data = {"length": "0.5", **values}
    return httpx2.post(f"{server.url}/clips", files=files, data=data, timeout=60)


def order(server: Server, **values: str) -> str:
    answer = post(server, **values)
    assert answer.status_code == 202, answer.text
    return server.url + str(answer.headers["location"])


def wait_for(url: str, *states: str) -> dict[str, Any]:
    for _ in range(600):
        job: dict[str, Any] = httpx2.get(url).json()
        if job["state"] in states:
            return job
        time.sleep(0.1)
    raise AssertionError(f"still {job}")


@pytest.mark.long
def test_clips_that_end_their_worker_fail_in_words(tmp_path: Path) -> None:
    options = (*OPTIONS, "--stuck-seconds", "1")
    with running(tmp_path / "log", tmp_path / "temporary", *options, main=DRAWN) as server:
        jobs = [order(server, prompt=prompt, steps="4") for prompt in (CRASHES, HANGS, "drum")]
        for job in jobs[:2]:
            error = wait_for(job, "failed", "done")["error"]
            assert error.startswith("was begun 2 times, and its worker ended each time without")
        wait_for(jobs[2], "done")
        assert server.log.count("local-0 is stuck with job") == 2
        assert server.log.count("local-0 ended (-9) while it made job") == 4
        assert httpx2.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.long
def test_what_is_not_done_in_time_is_gone_on_with(tmp_path: Path) -> None:
    options = (tmp_path / "temporary", *OPTIONS, "--grace", "0")
    with running(tmp_path / "log", *options, main=DRAWN) as server:
        job = order(server, steps="100")
        while httpx2.get(job).json()["progress"]["step"] < 3:
            time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        path = job.removeprefix(server.url)
    with running(tmp_path / "log2", *options, main=DRAWN) as server:
        job = wait_for(server.url + path, "done")
        assert any(".clip.mp4.parts: goes on after" in remark for remark in job["remarks"])
        report = httpx2.get(server.url + job["links"]["report"]).json()
        assert str(tmp_path) not in str(report)


@pytest.mark.long
def test_a_second_signal_ends_it_before_its_grace(tmp_path: Path) -> None:
    with running(tmp_path / "log", tmp_path / "temporary", *OPTIONS, main=DRAWN) as server:
        job = order(server, steps="100")
        while httpx2.get(job).json()["progress"]["step"] < 3:
            time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.log
        assert server.log.rstrip().endswith("stopped")


@pytest.mark.long
def test_a_store_that_is_locked_for_a_while(tmp_path: Path) -> None:
    with running(tmp_path / "log", tmp_path / "temporary", *OPTIONS, main=DRAWN) as server:
        wait_for(order(server), "done")
        locking = sqlite3.connect(tmp_path / "data" / "store.sqlite", isolation_level=None)
        locking.execute("BEGIN EXCLUSIVE")
        refused = post(server)
        assert refused.status_code == 503
        assert "the store has not answered for 10 s; try again later" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "10"
        assert httpx2.get(f"{server.url}/healthz").status_code == 200
        locking.execute("COMMIT")
        locking.close()
        for _ in range(100):
            answer = post(server, seed="1")
            if answer.status_code == 202:
                break
            time.sleep(0.2)
        wait_for(server.url + answer.headers["location"], "done")
        jobs = httpx2.get(f"{server.url}/clips").json()["jobs"]
        assert [job["state"] for job in jobs] == ["done", "done"], "what was refused is not made"


def test_a_store_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"no database" * 1000)
    assert main(["--port", "0", "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"store sqlite:///{tmp_path}/store.sqlite: file is not a database; mend it" in error


def test_a_folder_that_another_server_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path / "log", tmp_path / "temporary", *OPTIONS, main=DRAWN):
        assert main(["--port", "0", "--data", str(tmp_path / "data")]) == 2
    assert "another server keeps its jobs here; choose another folder" in capsys.readouterr().err


@pytest.mark.long
def test_workers_elsewhere_make_what_is_ordered_here(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/shared.sqlite"
    here = (*OPTIONS, "--workers", "0", "--store", store)
    there = (*OPTIONS, "--worker", "--workers", "2", "--store", store)
    data = tmp_path / "data"
    with running(tmp_path / "log", tmp_path / "temporary", *here, data=data, main=DRAWN) as front:
        assert " on other machines" in front.log
        assert httpx2.get(f"{front.url}/readyz").status_code == 200
        jobs = [order(front, seed=str(seed)) for seed in range(3)]
        elsewhere = Server(tmp_path / "log2", tmp_path, data, *there, main=DRAWN, listens=False)
        try:
            for job in jobs:
                wait_for(job, "done")
            elsewhere.process.send_signal(signal.SIGTERM)
            assert elsewhere.process.wait(60) == 0
        finally:
            elsewhere.close()
        assert elsewhere.log.rstrip().endswith("stopped")


def test_workers_elsewhere_need_to_know_for_whom(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--worker"]) == 2
    assert "--worker needs the --data and the --store" in capsys.readouterr().err


def test_a_step_far_beyond_its_forecast() -> None:
    watch = StepWatch(Patience(least=5, most=100, factor=20))
    assert not watch.is_stuck(None, None, 0)
    assert not watch.is_stuck("a", JobProgress(), 1)
    assert not watch.is_stuck("a", JobProgress(), 100), "networks are opened"
    assert watch.is_stuck("a", JobProgress(), 102)
    at_step = JobProgress("generator", 2, 9, longest_step=1.0)
    assert not watch.is_stuck("b", at_step, 200)
    assert not watch.is_stuck("b", at_step, 220)
    assert watch.is_stuck("b", at_step, 221), "twenty times a second"
    assert not watch.is_stuck("b", replace(at_step, step=3), 222), "it was slow"
    assert not watch.is_stuck(None, None, 999), "it has nothing to do"
