"""A running server, and what is ordered there."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from keyvid.errors import SettingsError

_SEGMENT_SECONDS = 2.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Made:
    """A clip of the server: seconds since 1970."""

    segments: float
    created: float
    started: float
    ended: float


@dataclass(frozen=True)
class Server:
    """A server by one of its clients.

    Attributes:
        files: picture and sound of all orders.
        form: fields of all orders.
    """

    client: httpx2.Client
    files: dict[str, tuple[str, bytes]]
    form: Mapping[str, str]

    def order(self, segments: float | None = None) -> str:
        """Order a clip, as long as the server has it where nothing is said; gives its id."""
        length = {} if segments is None else {"length": f"{segments * _SEGMENT_SECONDS:g}"}
        form = {**self.form, **length}
        answer = self.client.post("/clips", data=form, files=self.files)
        if answer.status_code != 202:
            raise SettingsError(f"the server refuses: {answer.status_code} {answer.text[:200]}")
        return str(answer.json()["id"])

    def wait_for(self, name: str, segments: float) -> Made:
        """The clip, when it is there."""
        while (job := self.client.get(f"/clips/{name}").json())["state"] in ("queued", "running"):
            time.sleep(_POLL_SECONDS)
        if job["state"] != "done":
            raise SettingsError(f"clip {name}: {job['error']}")
        return Made(segments, job["created"], job["started"], job["ended"])


@contextmanager
def client_of(url: str, image: Path, audio: Path, *fields: str) -> Iterator[Server]:
    """A server as a client of its own sees it, within the block.

    Args:
        fields: of all orders, as NAME=VALUE.
    """
    files = {
        name: (path.name, path.read_bytes()) for name, path in (("image", image), ("audio", audio))
    }
    form = dict(field.split("=", 1) for field in fields)
    with httpx2.Client(base_url=url, timeout=60) as client:
        yield Server(client, files, form)
