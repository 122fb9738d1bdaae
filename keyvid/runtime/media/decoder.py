"""The process in which files are decoded; `keyvid.runtime.media.isolation` starts and asks it."""

import json
import logging
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from keyvid.errors import MediaError, ProvenanceError, SettingsError
from keyvid.remarks import collected
from keyvid.runtime.media import clip_file, picture_file, sound_file

_MOST_REQUEST = 1 << 16  # bytes
_NICE = 5  # clips that are in the making go before files that somebody sends
_LARGE = 300 << 20  # bytes of memory with which a process is not kept

Result = tuple[dict[str, Any], np.ndarray | None]

TASKS: dict[str, Callable[..., Result]] = {
    "picture": picture_file.load,
    "picture_size": picture_file.size,
    "sound": sound_file.read,
    "sound_duration": sound_file.duration,
    "clip": clip_file.inspect,
    "clip_credentials": clip_file.credentials,
    "clip_levels": clip_file.levels,
    "clip_pictures": clip_file.pictures,
}


def serve(descriptor: int) -> None:
    """Answer what is asked through a socket until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the one who asks
    _limit(resource.RLIMIT_CORE, 0)
    os.nice(_NICE)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # libraries print what they think of a file
    logging.getLogger("keyvid").addHandler(logging.NullHandler())
    with socket.socket(fileno=descriptor) as connection:
        while asked := _receive(connection):
            request, file = asked
            with file, collected() as remarks:
                values, pixels = _answer(request, file)
            values |= {"remarks": remarks, "is_large": _resident() > _LARGE}
            header = json.dumps(values).encode()
            size = 0 if pixels is None else pixels.nbytes
            connection.sendall(len(header).to_bytes(4, "big") + size.to_bytes(8, "big") + header)
            if size:
                connection.sendall(np.ascontiguousarray(pixels).data)
            del pixels


def _receive(connection: socket.socket) -> tuple[dict[str, Any], IO[bytes]] | None:
    """The next request and its file; None where there will be none."""
    line, descriptors, _, _ = socket.recv_fds(connection, _MOST_REQUEST, 1)
    while line and not line.endswith(b"\n"):
        line += connection.recv(_MOST_REQUEST)
    if not line:
        return None
    return json.loads(line), os.fdopen(descriptors[0], "rb", buffering=0)


def _answer(request: dict[str, Any], file: IO[bytes]) -> Result:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, round(used.ru_utime + used.ru_stime + request["seconds"] + 0.5))
    _limit(resource.RLIMIT_AS, _address_space() + request["memory"])
    try:
        return TASKS[request["task"]](file, **request["arguments"])
    except MediaError as error:
        return {"error": str(error), "kind": "media"}, None
    except SettingsError as error:
        return {"error": str(error), "kind": "settings"}, None
    except ProvenanceError as error:
        return {"error": str(error), "kind": "provenance"}, None
    except MemoryError:
        return {"error": "", "kind": "memory"}, None
    except Exception:
        return {"error": traceback.format_exc(), "kind": "fault"}, None


def _limit(kind: int, value: int) -> None:
    """Set a limit, or leave a lower one; systems that know none have none."""
    try:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard < 0 else min(value, hard), hard))
    except (OSError, ValueError):
        return


def _address_space() -> int:
    """Bytes that the process has mapped; more than any has where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 45


def _resident() -> int:
    """Bytes of memory that the process takes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
