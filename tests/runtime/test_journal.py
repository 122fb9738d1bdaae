"""A clip that is interrupted at any step goes on from there to the same bytes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keyvid.bundle.specs import Conditioning, Dimensions
from keyvid.errors import MediaError
from keyvid.runtime.diffusion.conditioning import Conditions
from keyvid.runtime.diffusion.diffusion import Diffusion, place_of
from keyvid.runtime.diffusion.noise import seeded
from keyvid.runtime.diffusion.segments import plan_segments
from keyvid.runtime.journal import Journal, Reel
from keyvid.runtime.outputs import journal_of
from keyvid.sampling import Sampling, UNetSampling

NUM_FRAMES = 120  # three segments


class StopError(Exception):
    """Raised at a step, in place of a signal."""


class Stage:
    """A network that is a formula."""

    graph = SimpleNamespace(branches=4)

    def __init__(self, runner: "Runner") -> None:
        self._runner = runner

    def use(self, branches: int) -> int:
        return branches

    def bind(self, **inputs: np.ndarray) -> None:
        self._bound = inputs

    def steps(self, rows: Any, num_done: int = 0) -> Iterator[Any]:
        yield from rows[num_done:]

    def __call__(self, latent: np.ndarray, timestep: np.ndarray, **inputs: np.ndarray) -> Any:
        if self._runner.steps_left == 0:
            raise StopError
        self._runner.steps_left -= 1
        noisy, condition = np.split(latent, 2, axis=1)
        scale = 0.1 * np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1, 1, 1)
        return np.tanh(scale * noisy + 0.3 * condition + timestep[0] / 1000).astype(np.float32)


class Runner:
    """Stands in for a `StageRunner` that is interrupted after so many steps."""

    def __init__(self, size: Dimensions, steps_left: int = -1) -> None:
        conditioning = Conditioning("paper", 1.0, False, 0.7)
        self.bundle = SimpleNamespace(dimensions=size, conditioning=conditioning)
        self.steps_left = steps_left

    @contextmanager
    def open(self, unet: str) -> Iterator[Stage]:
        yield Stage(self)


SAMPLINGS = {
    "ddim, which draws noise": Sampling(UNetSampling(steps=4), UNetSampling(steps=2)),
    "dpm, which looks back, without windows": Sampling(
        UNetSampling(steps=4, solver="dpm"), UNetSampling(steps=3, solver="dpm"), temporal="full"
    ),
}


def make(reel: Reel, runner: Runner, sampling: Sampling) -> np.ndarray:
    """What `Pipeline._animate` does, without encoders; the frames are the latents' bytes."""
    size = runner.bundle.dimensions
    motion = np.random.default_rng(2).random(500).astype(np.float32)
    tokens = {
        "image": (2, size.frames * size.image_tokens, 4),
        "text": (2, 3, 4),
        "audio": (2, 1 + size.frequency_patches * size.frames, 4),
    }
    conditions = Conditions(**{name: np.zeros(shape, np.float32) for name, shape in tokens.items()})
    latent = np.ones((1, 2, 3, 4), np.float32)
    shape = (NUM_FRAMES, 2, 3, 4, 4)
    reel.open(shape, "this clip")
    diffusion = Diffusion(runner, sampling, latent, 7, seeded(7), reel.keep)  # type: ignore[arg-type]
    if reel.state:
        diffusion.restore(reel.state)
    for segment in plan_segments(NUM_FRAMES, motion, size)[diffusion.num_segments :]:
        made = diffusion.make_segment(segment, conditions)[0].swapaxes(0, 1)[segment.new]
        reel.add(
            segment.start + segment.known,
            np.ascontiguousarray(made).view(np.uint8).reshape(len(made), *shape[1:]),
        )
        reel.keep(diffusion.state())
    return np.array(reel.frames)


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=list(SAMPLINGS))
def test_interrupted_at_every_step(
    sampling: Sampling, dimensions: Dimensions, tmp_path: Path
) -> None:
    whole = make(Reel(), Runner(dimensions), sampling)
    num_steps = 3 * (sampling.generator.steps + sampling.interpolator.steps)
    for step in range(num_steps):
        folder = tmp_path / str(step)
        first = Journal(folder)
        with pytest.raises(StopError):
            make(first, Runner(dimensions, step), sampling)
        first.close()
        again = Journal(folder, resume=True)
        runner = Runner(dimensions, num_steps)
        assert np.array_equal(make(again, runner, sampling), whole)
        assert runner.steps_left == step, "no step is made twice"
        again.remove()
    assert not any(tmp_path.iterdir())


def test_interrupted_again_and_again(dimensions: Dimensions, tmp_path: Path) -> None:
    sampling = SAMPLINGS["ddim, which draws noise"]
    whole = make(Reel(), Runner(dimensions), sampling)
    places = []
    for _ in range(3 * 6 - 1):
        journal = Journal(tmp_path / "parts", resume=True)
        with pytest.raises(StopError):
            make(journal, Runner(dimensions, 1), sampling)
        places.append(place_of(journal.state))
        journal.close()
    assert places[:3] == [f"segment 1, step {step} of the generator" for step in (1, 2, 3)]
    assert places[4] == "segment 1, step 1 of the interpolator"
    assert places[-1] == "segment 3, step 1 of the interpolator"
    last = Journal(tmp_path / "parts", resume=True)
    assert np.array_equal(make(last, Runner(dimensions, 1), sampling), whole)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off", b"\x93NUMPY"])
def test_a_damaged_state_is_no_state(
    content: bytes, dimensions: Dimensions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = SAMPLINGS["ddim, which draws noise"]
    first = Journal(tmp_path / "parts")
    whole = make(first, Runner(dimensions), sampling)
    first.close()
    (tmp_path / "parts" / "state.npz").write_bytes(content)
    again = Journal(tmp_path / "parts", resume=True)
    assert np.array_equal(make(again, Runner(dimensions), sampling), whole)
    assert "holds nothing of this clip; it is made anew" in caplog.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 2 MB; skipped where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.system(f"mount -t tmpfs -o size=2m tmpfs {folder} 2>/dev/null"):
        pytest.skip("file systems cannot be mounted here")
    yield folder
    os.system(f"umount -l {folder}")


def fill(folder: Path) -> None:
    """Take all that is free."""
    with (folder / "filling").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_disk_that_fills_in_mid_clip(
    small_disk: Path, dimensions: Dimensions, caplog: pytest.LogCaptureFixture
) -> None:
    """Room for frames is taken at the beginning; steps that find none are not kept."""
    sampling = SAMPLINGS["ddim, which draws noise"]
    whole = make(Reel(), Runner(dimensions), sampling)
    first = Journal(small_disk / "parts")
    with pytest.raises(StopError):
        make(first, Runner(dimensions, 2), sampling)
    fill(small_disk)
    first.close()
    second = Journal(small_disk / "parts", resume=True)
    with pytest.raises(StopError):
        make(second, Runner(dimensions, 11), sampling)
    assert caplog.text.count("no room: the frames take 11.5 kB") == 1
    assert place_of(second.state) == "segment 1, step 2 of the generator"
    second.close()
    (small_disk / "filling").unlink()
    third = Journal(small_disk / "parts", resume=True)
    assert np.array_equal(make(third, Runner(dimensions), sampling), whole)


def test_a_full_disk_is_no_reason_not_to_make_a_short_clip(
    small_disk: Path, dimensions: Dimensions, caplog: pytest.LogCaptureFixture
) -> None:
    fill(small_disk)
    journal = Journal(small_disk / "parts")
    make(journal, Runner(dimensions), SAMPLINGS["ddim, which draws noise"])
    assert "an interruption loses the clip" in caplog.text
    assert not (small_disk / "parts").exists()


def test_frames_without_room_are_refused_at_once(small_disk: Path) -> None:
    journal = Journal(small_disk / "parts")
    with pytest.raises(MediaError, match=r"no room: the frames take 42.5 GB, 2.\d+ MB are free"):
        journal.open((86_400, 320, 512, 3), "an hour")
    journal.remove()
    assert not (small_disk / "parts").exists()


def test_a_name_of_255_bytes_has_a_journal(dimensions: Dimensions, tmp_path: Path) -> None:
    with journal_of(str(tmp_path / ("x" * 251 + ".mp4")), resume=False) as journal:
        make(journal, Runner(dimensions), SAMPLINGS["ddim, which draws noise"])
    assert not any(tmp_path.iterdir())
