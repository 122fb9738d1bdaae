"""Killed at any moment: results are whole, nothing stays behind, and the next run works."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from PIL import Image

from keyvid.bundle.manifest import Bundle

EXAMPLES = Path(__file__).parents[1] / "examples"

# Without networks the time that is left is the time in which files are written.
WITHOUT_NETWORKS = """
import numpy as np
from keyvid.runtime.clip import Clip
from keyvid.runtime.pipeline import Pipeline
from keyvid.sampling import Sampling

def sample(self, prepared, progress, journal):
    frames = np.random.default_rng(0).integers(0, 255, (48, 64, 96, 3), np.uint8)
    motion = np.linspace(0, 1, 48, dtype=np.float32)
    keyframes, batches = np.arange(0, 48, 4), {"generator": 1, "interpolator": 1}
    made = ("tiny", self.engine.name, "", prepared.seed, Sampling())
    sound = prepared.inputs.sound
    return Clip(frames, 24, sound, keyframes, motion, {"generator": 1.0}, batches, *made)

Pipeline.make = sample
"""


@dataclass(frozen=True)
class Program:
    """A command, and how its results are seen to be whole.

    Attributes:
        code: Python that runs it.
        results: names that it writes, with what raises if one is not whole.
    """

    code: str
    results: dict[str, Callable[[Path], object]]


def check_film(path: Path) -> None:
    with av.open(path) as container:
        assert sum(1 for _ in container.decode(video=0)) == 48


def check_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.load()


INFER = f"""
import sys
from keyvid.runtime.jobs.cli import main
sys.exit(main([{str(EXAMPLES / "hammer.png")!r}, {str(EXAMPLES / "hammer.wav")!r},
               "--steps", "1", "--threads", "1", "--plot", "plot.png"]))
"""
EXPORT = """
import sys
from keyvid.export.cli import main
sys.exit(main(["--random-weights", "1", "--stage", "localizer", "--stage", "text_encoder",
               "--out", "bundle"]))
"""
FILM = {"hammer.mp4": check_film, "plot.png": check_picture}
PROGRAMS = {
    "writing": Program(WITHOUT_NETWORKS + INFER, FILM),
    "keyvid-infer": Program(INFER, FILM),
    "keyvid-export": Program(EXPORT, {"bundle": Bundle.load}),
}


def start(program: Program, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program.code],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def check_no_process_is_left(group: int) -> None:
    """See that a process group ends within seconds; a zombie's parent may take a moment."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process outlives the one that was killed")


def kill_at_random(program: Program, folder: Path, num_kills: int) -> int:
    """Kill it so often at random moments, results checked each time; gives how many it survived."""
    rng = random.Random(num_kills)
    begin = time.monotonic()
    assert start(program, folder).wait() == 0
    seconds = time.monotonic() - begin
    survived = 0
    for number in range(num_kills):
        process = start(program, folder)
        time.sleep(rng.uniform(0.1, 1.1) * seconds)
        survived += process.poll() is not None
        process.send_signal(signal.SIGTERM if number % 3 == 0 else signal.SIGKILL)
        process.wait()
        check_no_process_is_left(process.pid)
        for name, check in program.results.items():
            check(folder / name)  # the first run's, or this one's
    return survived


def check_next_run(program: Program, folder: Path) -> None:
    """See that it works and leaves nothing but its results."""
    assert start(program, folder).wait() == 0
    for name, check in program.results.items():
        check(folder / name)
    assert {path.name for path in folder.iterdir()} == set(program.results)


def test_killed_while_it_writes(tmp_path: Path) -> None:
    survived = kill_at_random(PROGRAMS["writing"], tmp_path, 3)
    assert survived < 3
    check_next_run(PROGRAMS["writing"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_twenty_kills(name: str, tmp_path: Path) -> None:
    survived = kill_at_random(PROGRAMS[name], tmp_path, 20)
    assert survived < 10, "most were killed before their end"
    check_next_run(PROGRAMS[name], tmp_path)


STEPS = """
import os, signal, sys
from keyvid.runtime.networks.stages import OpenStage
from keyvid.runtime.jobs.cli import main

calls_left = int(sys.argv[1])
call = OpenStage.__call__

def counted(self, **inputs):
    global calls_left
    if self.name in ("generator", "interpolator", "vae_decoder"):
        calls_left -= 1
        if calls_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return call(self, **inputs)

OpenStage.__call__ = counted
sys.exit(main([*sys.argv[2:], "-o", "clip.mp4", "--threads", "1"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("length", ["2", "4.5"])
def test_killed_at_ten_random_steps_the_clip_has_the_same_bytes(
    length: str, tmp_path: Path
) -> None:
    """Each run goes on where the last one was killed: in a step, or while it decodes."""
    rng = random.Random(4)

    def run(calls_left: int, *options: str) -> int:
        made = [str(EXAMPLES / "hammer.png"), str(EXAMPLES / "hammer.wav"), "--length", length]
        settings = ["--solver", "ddim", "--steps", "5", "--interpolator-steps", "3"]
        command = [sys.executable, "-c", STEPS, str(calls_left), *made, *settings, *options]
        return subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode

    assert run(0) == 0
    whole = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").unlink()
    for number in range(10):
        assert run(rng.randint(2, 4), *(["--resume"] if number else [])) == -signal.SIGKILL
    assert run(0, "--resume") == 0
    assert (tmp_path / "clip.mp4").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
