"""The folder of a job: its order, how far it is, what came of it.

The front writes the order, a worker everything else; both may be killed at any time.
"""

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from keyvid.bundle.manifest import Bundle
from keyvid.file_safety import replace_own, sync, temporary_folder, write_whole
from keyvid.serve.order import Order
from keyvid.serve.order_file import read_order, write_order

CLIP, REPORT, PLOT = "clip.mp4", "report.json", "plot.png"
_RESULTS = (CLIP, REPORT, PLOT)
_PROGRESS, _ATTEMPTS, _OUTCOME = "progress.json", "attempts.json", "ended.json"
_UNWANTED = "unwanted"
_STAGES = ("generator", "interpolator", "vae_decoder")  # in the order of their work


@dataclass(frozen=True)
class JobProgress:
    """How far a clip is.

    Attributes:
        seconds_left: None while it is not known.
        longest_step: seconds of the longest of this stage so far, of any clip of this worker; None
            before the first.
    """

    stage: str = ""
    step: int = 0
    num_steps: int = 0
    segment: int = 0
    num_segments: int = 1
    seconds_left: float | None = None
    longest_step: float | None = None

    @property
    def place(self) -> tuple[int, ...]:
        """Grows while the clip is made; () before its first step."""
        if self.stage not in _STAGES:
            return ()
        return self.segment, _STAGES.index(self.stage), self.step


@dataclass(frozen=True)
class Attempt:
    """A worker that began to make the clip.

    Attributes:
        run: of the server that the worker belonged to; a new one after each start.
        place: how far it came, see `JobProgress.place`.
        begun: seconds since 1970, None where that was not written down.
    """

    run: str
    place: tuple[int, ...] = ()
    begun: float | None = None


class JobFolder:
    """The folder of a job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, order: Order, bundle: Bundle) -> None:
        """Write an order, so that it is there whole or not at all, also after a power failure.

        Raises:
            OSError: it cannot be written.
        """
        with temporary_folder(self.path.parent) as temporary:
            write_order(temporary, order, bundle)
            for path in (*temporary.iterdir(), temporary):
                sync(path)
            temporary.rename(self.path)
        sync(self.path.parent)

    def read_order(self, bundle: Bundle) -> Order:
        """The order; raises as `keyvid.serve.order_file.read_order`."""
        return read_order(self.path, bundle)

    @property
    def is_wanted(self) -> bool:
        """Whether nobody has cancelled it."""
        return self.path.is_dir() and not (self.path / _UNWANTED).exists()

    def cancel(self) -> None:
        """Let a worker that is at it stop at its next step."""
        with suppress(OSError):  # it is gone
            (self.path / _UNWANTED).touch()

    @property
    def progress(self) -> JobProgress:
        """How far it is."""
        content = _read(self.path / _PROGRESS, JobProgress)
        return content if content is not None else JobProgress()

    @progress.setter
    def progress(self, progress: JobProgress) -> None:
        with suppress(OSError):  # a full disk is for those to tell who write more
            replace_own(self.path / _PROGRESS, msgspec.json.encode(progress))

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Those that have begun, the first one first; whoever asks is to begin the next."""
        found: tuple[Attempt, ...] = _read(self.path / _ATTEMPTS, tuple[Attempt, ...]) or ()
        return (*found[:-1], replace(found[-1], place=self.progress.place)) if found else ()

    @property
    def begun(self) -> float | None:
        """When the first one began, seconds since 1970; None where that is not known."""
        return next((attempt.begun for attempt in self.attempts), None)

    def begin_attempt(self, run: str, now: float) -> None:
        """Note that a worker begins, and how far the one before it came."""
        attempts = (*self.attempts, Attempt(run, begun=now))
        replace_own(self.path / _ATTEMPTS, msgspec.json.encode(attempts))
        (self.path / _PROGRESS).unlink(missing_ok=True)

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What came of it, None while nothing has."""
        outcome: dict[str, Any] | None = _read(self.path / _OUTCOME, dict[str, Any])
        return outcome

    def end(self, outcome: dict[str, Any]) -> None:
        """Keep what came of it, and no more than that.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(self.path / _OUTCOME, json.dumps(outcome).encode())
        kept = {_OUTCOME, *(_RESULTS if outcome["state"] == "done" else ())}
        for path in self.path.iterdir():
            if path.name not in kept:
                _remove(path)

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def crashes(attempts: Sequence[Attempt], run: str) -> list[tuple[int, ...]]:
    """How far the attempts came that ended their worker.

    One whose server ended with it does not count: that was hardly the clip's fault.

    Args:
        run: of the server that begins the next attempt.
    """
    following = [*(attempt.run for attempt in attempts), run][1:]
    pairs = zip(attempts, following, strict=True)
    return [attempt.place for attempt, after in pairs if attempt.run == after]


def _read(path: Path, kind: Any) -> Any:
    """What a file holds, None where that is nothing."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
