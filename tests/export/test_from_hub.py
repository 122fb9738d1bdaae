"""`keyvid-export --from-hub` in processes that are killed, against a stand-in for the Hub."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.export.released import LICENCES, REVISION
from keyvid.export.stages import STAGES

GENERATOR, INTERPOLATOR = "generator_checkpoint.ckpt", "epoch=3669-step=58720.ckpt"
LOCALIZER = "best_model_version1_with_skip.pth"
SECONDS = 900  # that a process may take on a busy machine
CHUNK = 10 * 2**20  # what huggingface_hub writes at a time


@pytest.fixture
def start(published_hub, tmp_path):
    """`start()`: the command in a process of its own, which knows the stand-in by HF_ENDPOINT."""
    home = {"XDG_CACHE_HOME": str(tmp_path / "home/.cache"), "HF_ENDPOINT": published_hub.url}
    # A busy machine may keep this process, which serves, waiting for longer than the client does.
    home |= {"HF_HUB_DOWNLOAD_TIMEOUT": "600", "HF_HUB_ETAG_TIMEOUT": "600"}
    arguments = ["--preset", "keyvid-512", "--from-hub", "--no-verify", "--drop-downloads"]
    processes = []

    def start_it(stages):
        chosen = [word for stage in stages for word in ("--stage", stage)]
        command = [sys.executable, "-m", "tests.export.small", *arguments, *chosen]
        process = subprocess.Popen(
            [*command, "--out", tmp_path / "bundle"],
            env={**os.environ, **home},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_it
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(condition, process):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(process):
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("stages", "second"),
    [
        (["text_encoder", "localizer"], LOCALIZER),
        pytest.param(list(STAGES), INTERPOLATOR, marks=pytest.mark.slow),
    ],
    ids=["two stages", "all"],
)
def test_one_command_makes_a_bundle_though_it_is_killed_three_times(
    published_hub, start, tmp_path, stages, second
):
    """Killed in the first download, in one after finished stages, and in the export after that."""
    hub = published_hub
    downloads = tmp_path / "home/.cache/keyvid/released"
    hub.stall_at = (GENERATOR, CHUNK + 5)
    process = start(stages)
    wait_for(lambda: any(downloads.glob("*.incomplete")), process)
    (partial,) = downloads.glob("*.incomplete")
    wait_for(lambda: partial.stat().st_size == CHUNK, process)
    kill(process)

    hub.stalled.clear()
    hub.stall_at = (second, 5)
    process = start(stages)
    wait_for(hub.stalled.is_set, process)
    kill(process)
    progress = tmp_path / ".bundle.keyvid-export" / "progress.json"
    assert list(json.loads(progress.read_text())["stages"]) == stages[: -1 - (second != LOCALIZER)]
    assert hub.downloads(GENERATOR) == [0, CHUNK]  # the second went on where the first stopped
    assert not any(downloads.glob("*.ckpt"))  # all that finished stages are made of has gone

    hub.stall_at = None
    process = start(stages)
    wait_for(lambda: any(downloads.glob(f"*{Path(second).suffix}")), process)
    kill(process)

    process = start(stages)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, stderr
    assert "to fetch: 0 bytes" in stderr
    assert [row.split()[0] for row in stdout.splitlines()[1:-1]] == stages
    assert len(hub.downloads(GENERATOR)) == 2
    bundle = Bundle.load(tmp_path / "bundle")
    assert bundle.licences == {stage: LICENCES[stage] for stage in stages}
    assert {file.revision for file in bundle.sources.values()} == {REVISION, 40 * "c"}
    assert {path.suffix for path in downloads.iterdir()} == {".json"}  # the tokenizer is small
    if stages == list(STAGES):
        check_complete(bundle)
