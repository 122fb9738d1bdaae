"""Jobs on Ray: two workers on this machine, one of which is killed."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import psutil
import pytest

from keyvid.engines.spec import ENGINES
from keyvid.errors import SettingsError
from keyvid.runtime.jobs import batch, cli
from keyvid.runtime.jobs.batch import Outcome, Results

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'keyvid[ray]'")

from keyvid.runtime.jobs import ray_workers  # noqa: E402 # it needs Ray

OPTIONS = ["--jobs", "jobs.jsonl", "--ray", "--steps", "1", "--interpolator-steps", "1"]


@pytest.mark.parametrize(
    ("cluster", "engine", "threads", "num_workers", "found"),
    [
        ({"CPU": 8.0}, "auto", None, 0, (8, {"num_cpus": 1})),
        ({"CPU": 8.0}, "auto", 3, 0, (2, {"num_cpus": 3})),
        ({"CPU": 8.0}, "auto", None, 2, (2, {"num_cpus": 4})),
        ({"CPU": 8.0}, "auto", 4, 9, (2, {"num_cpus": 4})),
        ({"CPU": 8.0, "GPU": 4.0}, "auto", None, 0, (4, {"num_cpus": 0, "num_gpus": 1})),
        ({"CPU": 8.0, "GPU": 4.0}, "cuda", None, 3, (3, {"num_cpus": 0, "num_gpus": 1})),
        *(
            ({"CPU": 8.0, "GPU": 4.0}, name, None, 0, (8, {"num_cpus": 1}))
            for name, spec in ENGINES.items()
            if spec.device == "cpu"
        ),
    ],
)
def test_workers_divide_the_cluster(
    cluster: dict[str, float],
    engine: str,
    threads: int | None,
    num_workers: int,
    found: tuple[int, dict[str, int]],
) -> None:
    loading = {"engine": engine, "threads": threads}
    assert ray_workers._divide(cluster, loading, num_workers) == found


def test_more_threads_than_there_are() -> None:
    with pytest.raises(SettingsError, match="threads 9: the cluster has 8 CPUs"):
        ray_workers._divide({"CPU": 8.0}, {"engine": "auto", "threads": 9}, 0)
    with pytest.raises(SettingsError, match="threads 1: the cluster has 0 CPUs"):
        ray_workers._divide({}, {"engine": "auto", "threads": None}, 0)


@pytest.fixture
def cluster(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray with two CPUs, started here; five good jobs and a broken one."""
    rows: list[dict[str, Any]] = [
        {"image": "picture.png", "audio": "sound.wav", "seed": seed, "output": f"{seed}.mp4"}
        for seed in range(6)
    ]
    rows[2]["image"] = "missing.png"
    Path("jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ray.init(
        num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False
    )
    yield
    ray.shutdown()


def workers_of_ray() -> list[psutil.Process]:
    processes = psutil.Process().children(recursive=True)
    return [p for p in processes if p.name().startswith("ray::Worker")]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_worker_that_is_killed_costs_no_clip(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = Results.add
    killed: list[int] = []

    def kill_after_the_first_clip(self: Results, outcome: Outcome) -> None:
        add(self, outcome)
        if not killed and not outcome.error:
            both = workers_of_ray()
            assert len(both) == 2
            killed.extend(process.pid for process in both[:1])
            os.kill(both[0].pid, signal.SIGKILL)

    monkeypatch.setattr(batch.Results, "add", kill_after_the_first_clip)
    assert cli.main(OPTIONS) == 2
    assert killed
    rows = [json.loads(line) for line in Path("jobs.jsonl.results.jsonl").read_text().splitlines()]
    assert sorted(row["line"] for row in rows) == [1, 2, 3, 4, 5, 6]
    (failed,) = (row for row in rows if "error" in row)
    assert failed["error"].startswith("missing.png: No such file")
    assert sorted(capsys.readouterr().out.split()) == [f"{seed}.mp4" for seed in (0, 1, 3, 4, 5)]

    copyfile("picture.png", "missing.png")
    Path("4.mp4").unlink()
    assert cli.main(OPTIONS) == 0
    rows = [json.loads(line) for line in Path("jobs.jsonl.results.jsonl").read_text().splitlines()]
    assert sorted(row["line"] for row in rows[6:]) == [3, 5]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_workers_that_cannot_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*OPTIONS, "--bundle", "nowhere"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("keyvid-infer: nowhere")
    assert not Path("jobs.jsonl.results.jsonl").read_bytes()
