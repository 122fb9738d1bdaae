"""A worker: a process that holds the networks and makes one job after the other.

`python -m keyvid.serve.worker` reads what it is to do from standard input, a line of JSON, and ends
when that is closed: so none outlives its server, however that ends.
"""

import base64
import logging
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec

from keyvid.command import error_line, say
from keyvid.errors import KeyvidError
from keyvid.file_safety import lock, replace_own
from keyvid.runtime.pipeline import Pipeline
from keyvid.serve import logbook
from keyvid.serve.dispatch import Teller, dispatching
from keyvid.serve.maker import Maker
from keyvid.serve.work import DRAIN, WORKERS, Status, Work

_BEAT_SECONDS = 2.0  # after which a worker says again that it is there

log = logging.getLogger(__name__)


class _Sign:
    """Holds up a worker's status for others to see."""

    def __init__(self, work: Work) -> None:
        self._path = Path(work.data) / WORKERS / f"{work.name}.json"
        self._status = Status(pid=os.getpid())

    def show(self, **changes: Any) -> None:
        """Change it."""
        beats = self._status.beats + 1
        self._status = replace(self._status, beats=beats, **changes)
        with suppress(OSError):  # a full disk: whoever looks must bear it
            replace_own(self._path, msgspec.json.encode(self._status))


def main() -> int:
    """Work until standard input says otherwise; gives the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the server, which says when to end
    work = msgspec.json.decode(sys.stdin.buffer.readline(), type=Work)
    is_to_end = Event()
    Thread(target=_listen, args=(is_to_end,), daemon=True).start()
    _log_lines(work)
    sign = _Sign(work)
    try:
        with (Path(work.data) / WORKERS / f"{work.name}.lock").open("wb") as held:
            lock(held.fileno(), wait=True)  # one of this name may be about to end
            sign.show()
            _work(work, sign, is_to_end)
    except Exception as error:
        sign.show(error=error_line(error))
        if not isinstance(error, KeyvidError):
            log.exception("worker %s", work.name)
        return 2
    return 0


def _work(work: Work, sign: _Sign, is_to_end: Event) -> None:
    with Pipeline.load(
        work.bundle, work.engine, threads=work.threads, max_memory=work.max_memory
    ) as pipeline:
        maker = Maker(
            pipeline,
            Path(work.data) / "jobs",
            work.job_seconds,
            work.run,
            lambda job: sign.show(job=job),
            signer=work.signer,
        )
        teller = Teller(base64.b64decode(work.webhook_secret), work.allow_private_webhooks)
        with dispatching(work.store, work.name, maker.make, teller, work.grace_seconds):
            sign.show(engine=pipeline.engine.name)
            while not is_to_end.wait(_BEAT_SECONDS):
                sign.show()
        # What is still in the making goes on when the next worker of this name starts.
        os._exit(0)


def _listen(is_to_end: Event) -> None:
    """End when the server says so, and at once when it is gone."""
    for line in sys.stdin.buffer:
        if line == DRAIN:
            is_to_end.set()
    os._exit(1)


class _Lines(logging.Handler):
    """A line of stderr for each record."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def _log_lines(work: Work) -> None:
    """Show the log of keyvid as the server shows its own."""

    def name_the_worker(record: logging.LogRecord) -> bool:
        record.fields = {"worker": work.name, **getattr(record, "fields", {})}
        return True

    handler = _Lines()
    handler.addFilter(name_the_worker)
    logger = logging.getLogger("keyvid")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if work.is_verbose else logging.WARNING)
    logbook.begin(work.log_format)


if __name__ == "__main__":
    sys.exit(main())
