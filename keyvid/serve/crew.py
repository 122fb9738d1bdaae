"""The crew: worker processes of one server, started again when they end or are stuck."""

import logging
import os
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

from keyvid.engines.processor import num_cores
from keyvid.errors import SettingsError
from keyvid.serve.job_folder import JobFolder, JobProgress
from keyvid.serve.scheduling import Patience
from keyvid.serve.work import DRAIN, WORKERS, Status, Work, read_status

COMMAND = (sys.executable, "-m", "keyvid.serve.worker")
_LOOK_SECONDS = 0.25
_QUICK_END_SECONDS = 10.0  # after its start: then the next start waits
_LONGEST_WAIT_SECONDS = 30.0
_END_SECONDS = 5.0  # beyond the grace, for who is to end

log = logging.getLogger(__name__)


def new_run() -> str:
    """A name for a server from its start to its end."""
    return secrets.token_hex(8)


class Crew:
    """Workers on this machine; they end with it.

    Args:
        num_workers: cores and memory are shared out evenly.
        work: what each is to do; its name is a prefix.
    """

    def __init__(self, num_workers: int, work: Work, patience: Patience) -> None:
        self.num_workers = num_workers
        self.data = work.data
        threads, memory = work.threads, work.max_memory
        if num_workers > 1:
            threads = threads or max(num_cores() // num_workers, 1)
            memory = memory and memory // num_workers
        self._members = [
            _Member(
                replace(work, name=f"{work.name}-{n}", threads=threads, max_memory=memory), patience
            )
            for n in range(num_workers)
        ]

    def start(self) -> str:
        """Start them; gives the name of their engine when the first is ready.

        Raises:
            SettingsError: none can work, and why.
        """
        for member in self._members:
            member.start()
        while True:
            for member in self._members:
                if member.status.engine:
                    return member.status.engine
            if errors := [m.status.error for m in self._members if m.status.error]:
                self.stop(0.0)
                raise SettingsError(errors[0])
            time.sleep(_LOOK_SECONDS / 5)

    @property
    def is_ready(self) -> bool:
        """Whether one of them is there, or about to be again; those elsewhere are not asked."""
        return not self._members or any(member.is_there for member in self._members)

    @property
    def statuses(self) -> list[Status]:
        """What they say of themselves."""
        return [member.status for member in self._members]

    def stop(self, grace_seconds: float) -> None:
        """Have them end what they are making in that time, and no more."""
        for member in self._members:
            member.drain()
        deadline = time.monotonic() + grace_seconds + _END_SECONDS
        for member in self._members:
            member.join(max(deadline - time.monotonic(), 0.0))


class _Member:
    """A worker, and the thread that looks after it."""

    def __init__(self, work: Work, patience: Patience) -> None:
        self._work = work
        self._patience = patience
        self._data = Path(work.data)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_to_end = Event()
        self._thread = Thread(target=self._look_after, name=work.name, daemon=True)

    def start(self) -> None:
        """Start it."""
        (self._data / WORKERS).mkdir(parents=True, exist_ok=True)
        self._thread.start()

    @property
    def status(self) -> Status:
        """What it says of itself, nothing of what one before it said."""
        status = read_status(self._data, self._work.name)
        process = self._process
        return status if process and status.pid == process.pid else Status()

    @property
    def is_there(self) -> bool:
        """Whether it works."""
        return self._thread.is_alive() and not self.status.error

    def drain(self) -> None:
        """Have it end when its job is done."""
        self._is_to_end.set()

    def join(self, seconds: float) -> None:
        """Wait until it has ended; what takes longer is made to."""
        self._thread.join(seconds)
        if self._process and self._process.poll() is None:
            self._process.kill()
        self._thread.join(_END_SECONDS)

    def _look_after(self) -> None:
        wait = 0.0
        while not self._is_to_end.wait(wait):
            begun = time.monotonic()
            self._process = self._spawn()
            code = self._watch(self._process)
            if self._is_to_end.is_set():
                return
            if job := self.status.job:
                log.warning("%s ended (%s) while it made job %s", self._work.name, code, job)
            else:
                log.warning("%s ended (%s)", self._work.name, code)
            quick = time.monotonic() - begun < _QUICK_END_SECONDS
            wait = min(max(2 * wait, 0.5), _LONGEST_WAIT_SECONDS) if quick else 0.0

    def _spawn(self) -> subprocess.Popen[bytes]:
        # DBOS takes orders from variables of the environment, which are not ours to give.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("DBOS")}
        process = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment
        )
        self._tell(process, self._work.to_line())
        return process

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for its end, which comes soon where it is stuck; gives its exit code."""
        watch = StepWatch(self._patience)
        is_told = False
        while (code := process.poll()) is None:
            if self._is_to_end.is_set() and not is_told:
                self._tell(process, DRAIN)
                is_told = True
            job = self.status.job
            progress = JobFolder(self._data / "jobs" / job).progress if job else None
            if watch.is_stuck(job, progress, time.monotonic()):
                log.error("%s is stuck with job %s, and is ended", self._work.name, job)
                process.kill()
            self._is_to_end.wait(_LOOK_SECONDS) if not is_told else time.sleep(_LOOK_SECONDS)
        return code

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None, "it is a pipe"
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except OSError:
            return  # it has ended


class StepWatch:
    """Whether the step that a worker is at takes too long."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._seen: tuple[str | None, JobProgress | None] = (None, None)
        self._since = 0.0

    def is_stuck(self, job: str | None, progress: JobProgress | None, now: float) -> bool:
        """Whether it is.

        Args:
            now: seconds by a clock that never goes back.
        """
        if (job, progress) != self._seen:
            self._seen, self._since = (job, progress), now
        longest = progress.longest_step if progress else None
        return job is not None and now - self._since > self._patience.seconds(longest)
