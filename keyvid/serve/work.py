"""What a worker is told, and what it says of itself."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from keyvid.provenance.credentials import Signer
from keyvid.serve.logbook import LogFormat

DRAIN = b"drain\n"  # on its standard input
WORKERS = "workers"  # the folder beside that of the jobs
_ABSENT_SECONDS = 120.0  # without a word; a lock of a machine that is gone is free by then


@dataclass(frozen=True)
class Work:
    """What a worker is to do.

    Attributes:
        name: by which it is known in the store; one process at a time has it.
        run: of the server, see `keyvid.serve.job_folder.Attempt`.
        store: its address.
        data: the folder with those of the jobs and of the workers.
        webhook_secret: the key that webhooks are signed with, in base64.
        threads, max_memory: as of `Pipeline.load`.
        job_seconds: that the making of a clip may take.
        grace_seconds: that the clip in the making has when the worker is to end.
        certificate, key: files of who signs the clips, None for nobody.
    """

    name: str
    run: str
    store: str
    data: str
    bundle: str
    engine: str
    threads: int | None
    max_memory: int | None
    job_seconds: float
    grace_seconds: float
    webhook_secret: str
    allow_private_webhooks: bool
    certificate: str | None
    key: str | None
    is_verbose: bool
    log_format: LogFormat

    @property
    def signer(self) -> Signer | None:
        """Who signs the clips, None for nobody."""
        if self.certificate is None or self.key is None:
            return None
        return Signer(Path(self.certificate), Path(self.key))

    def to_line(self) -> bytes:
        """As the worker reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"


@dataclass(frozen=True)
class Status:
    """What a worker says of itself, in a file.

    Attributes:
        engine: its name, "" while it starts.
        error: why it cannot work.
        job: that it is making.
        beats: grows while it lives.
    """

    pid: int = 0
    engine: str = ""
    error: str = ""
    job: str | None = None
    beats: int = 0


def read_status(data: Path, name: str) -> Status:
    """What the worker of that name has said last."""
    with suppress(OSError, msgspec.DecodeError):
        content = (data / WORKERS / f"{name}.json").read_bytes()
        return msgspec.json.decode(content, type=Status)
    return Status()


class Watch:
    """Which workers are gone with their machine: those that have not said a word for long.

    Their words are compared, and not the times of files, as the clocks of machines differ.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._heard: dict[str, tuple[Status, float]] = {}

    def is_gone(self, name: str, now: float) -> bool:
        """Whether it is.

        Args:
            now: seconds by the clock of who asks.
        """
        status = read_status(self._data, name)
        before, since = self._heard.get(name, (None, now))
        if status != before:
            self._heard[name] = status, now
            return False
        return now - since > _ABSENT_SECONDS
