"""Clips that a keyvid-serve makes."""

import time
from contextlib import suppress
from io import BytesIO
from typing import Any

import requests
import soundfile
from PIL import Image

from .work import Work, progress_of_node

_LOOK_EVERY_SECONDS = 0.5
_ANSWER_SECONDS = 30  # until the server has to answer
_ENDED = ("done", "failed", "cancelled")


class ServerError(RuntimeError):
    """The server did not make the clip, and why."""


def made_on_server(
    work: Work, server: str, token: str, patience: int
) -> tuple[bytes, dict[str, Any]]:
    """MP4 and report of a clip, ordered of the server at that address.

    Args:
        token: of the server, "" for none.
        patience: seconds until it has to be done.
    Raises:
        ServerError: it cannot be reached, or does not make the clip.
        InterruptProcessingException: the user has pressed Cancel; the clip is cancelled, too.
    """
    root = server.rstrip("/")
    with requests.Session() as session:
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        job = _asked(session, "POST", f"{root}/clips", files=_files(work), data=_fields(work))
        here = f"{root}/clips/{job['id']}"
        try:
            _await(session, here, patience)
            video = _fetched(session, "GET", f"{here}/clip.mp4").content
            report: dict[str, Any] = _asked(session, "GET", f"{here}/report.json")
        finally:
            with suppress(ServerError):  # what is made is fetched, and need not be kept there
                _fetched(session, "DELETE", here)
    return video, report


def _await(session: requests.Session, job: str, patience: int) -> None:
    """Wait until a clip is done, and show how far it is."""
    show, last = progress_of_node(), time.monotonic() + patience
    while True:
        answer = _asked(session, "GET", job)
        at = answer["progress"]
        show(at["stage"], at["step"], at["num_steps"], at["segment"], max(at["num_segments"], 1))
        if answer["state"] == "done":
            return
        if answer["state"] in _ENDED:
            raise ServerError(f"the clip is {answer['state']}: {answer['error']}")
        if time.monotonic() > last:
            raise ServerError(f"the clip is {answer['state']} after {patience} s; wait longer")
        time.sleep(_LOOK_EVERY_SECONDS)


def _files(work: Work) -> dict[str, tuple[str, bytes, str]]:
    """Picture and sound as files."""
    sound = BytesIO()
    samples, rate = work.sound
    soundfile.write(sound, samples, rate, format="WAV", subtype="FLOAT")
    files = {
        "image": ("image.png", _as_png(work.picture), "image/png"),
        "audio": ("audio.wav", sound.getvalue(), "audio/wav"),
    }
    if work.end is not None and (work.end != work.picture).any():
        raise ServerError("the server takes no other last frame; connect the first one, or none")
    return files


def _fields(work: Work) -> dict[str, str]:
    fields = {name.replace("_", "-"): str(value) for name, value in work.choices.items()}
    return fields if work.end is None else {**fields, "end": "first"}


def _as_png(picture: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def _asked(session: requests.Session, method: str, url: str, **content: Any) -> dict[str, Any]:
    answer: dict[str, Any] = _fetched(session, method, url, **content).json()
    return answer


def _fetched(session: requests.Session, method: str, url: str, **content: Any) -> requests.Response:
    """The server's answer.

    Raises:
        ServerError: there is none, or it is a refusal.
    """
    try:
        answer = session.request(method, url, timeout=_ANSWER_SECONDS, **content)
    except requests.RequestException as error:
        raise ServerError(f"{url} cannot be reached ({error}); is keyvid-serve there?") from error
    if not answer.ok:
        raise ServerError(f"{url}: {answer.status_code}: {_why(answer)}")
    return answer


def _why(answer: requests.Response) -> str:
    """The reason in a refusal, in a line."""
    try:
        return str(answer.json()["detail"])[:300]
    except (ValueError, LookupError, TypeError):
        return " ".join(answer.text.split())[:300]
