"""Folders of strangers, unpacked and worked in: nothing outside them is written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from keyvid.errors import MediaError
from keyvid.runtime.jobs.batch import Results
from keyvid.runtime.jobs.job_file import read_jobs
from keyvid.runtime.journal import Journal

pytestmark = pytest.mark.security
SECRET = b"a file of mine"
SHAPE = (2, 4, 4, 3)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "unpacked"
    path.mkdir()
    return path


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_results_are_not_written_through_a_link(make, secret: Path, folder: Path) -> None:
    results = folder / "jobs.jsonl.results.jsonl"
    make(secret, results)
    with pytest.raises(
        MediaError, match=r"jobs.jsonl.results.jsonl: cannot be written: is .*; remove"
    ):
        Results(results).__enter__()
    assert secret.read_bytes() == SECRET


def test_results_are_a_regular_file(folder: Path) -> None:
    os.mkfifo(folder / "jobs.jsonl.results.jsonl")
    with pytest.raises(MediaError, match="is no regular file of one name; remove it"):
        Results(folder / "jobs.jsonl.results.jsonl").__enter__()
    results = folder / "others.results.jsonl"
    with Results(results):
        assert results.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("make", [os.symlink, os.link])
@pytest.mark.parametrize("name", ["frames", "state.npz", "made-from.json", "anything"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_clip_is_not_made_in_files_that_lead_elsewhere(
    make, name: str, resume: bool, secret: Path, folder: Path
) -> None:
    parts = folder / ".clip.mp4.parts"
    parts.mkdir()
    make(secret, parts / name)
    journal = Journal(parts, resume=resume)
    with pytest.raises(MediaError, match=r"\.clip.mp4.parts: cannot be written: is "):
        journal.open(SHAPE, "made from")
    journal.remove()
    assert secret.read_bytes() == SECRET
    assert (parts / name).exists()  # what did not come from here is not removed


def test_a_clip_is_not_made_in_a_folder_that_leads_elsewhere(tmp_path: Path, folder: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    parts = folder / ".clip.mp4.parts"
    parts.symlink_to(mine)
    with pytest.raises(MediaError, match="is a link; remove it"):
        Journal(parts).open(SHAPE, "made from")
    assert list(mine.iterdir()) == []
    parts.unlink()
    journal = Journal(parts)
    journal.open(SHAPE, "made from")
    journal.add(0, np.zeros(SHAPE, np.uint8))
    journal.close()
    assert (parts / "frames").stat().st_size == np.prod(SHAPE)


@pytest.mark.parametrize(
    "outputs",
    [
        {"output": "../clip.mp4"},
        {"report": "../x.json"},
        {"plot": "/tmp/x.png"},
        {"output": "way out/clip.mp4"},
        {"output": "inner/../../clip/"},
    ],
)
def test_results_stay_in_the_folder_of_the_job_file(
    outputs: dict[str, str], tmp_path: Path, folder: Path
) -> None:
    (folder / "way out").symlink_to(tmp_path)
    (folder / "inner").mkdir()
    jobs = folder / "jobs.jsonl"
    job = {"image": "a.png", "audio": "a.wav", "output": "inner/clip.mp4"}
    jobs.write_text(json.dumps(job | outputs))
    entries, (fault,) = read_jobs(jobs, {}, "tiny")
    assert entries == []
    assert "lies outside the folder of the job file; give another name, or add" in fault.error
    assert len(read_jobs(jobs, {}, "tiny", anywhere=True)[0]) == 1
    jobs.write_text(json.dumps(job))
    assert len(read_jobs(jobs, {}, "tiny")[0]) == 1


def test_a_kept_state_is_no_larger_than_its_file(folder: Path) -> None:
    """An archive of four megabytes that unpacks to four gigabytes is none of ours."""
    journal = Journal(folder)
    journal.open(SHAPE, "made from")
    journal.keep({"num_segments": np.array(1)})
    journal.close()
    again = Journal(folder, resume=True)
    again.open(SHAPE, "made from")
    assert again.state.keys() == {"num_segments"}
    again.close()
    np.savez_compressed(folder / "state.npz", num_segments=np.array(1))
    journal = Journal(folder, resume=True)
    journal.open(SHAPE, "made from")
    assert journal.state == {}
