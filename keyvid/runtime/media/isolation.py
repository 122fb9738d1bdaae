"""Files are decoded in a process of its own, which is ended where it takes too long or too much.

A picture of 200 kB can ask for hours and a sound of 1 kB for gigabytes, and what a decoder allows
itself is not to be known. So the process that makes clips opens no file with one: it hands the open
file to `keyvid.runtime.media.decoder` in another process and gets pixels or samples back. Such a
process is kept for the next file; one that died is not.
"""

import array
import atexit
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from keyvid.errors import EngineError, KeyvidError, MediaError, ProvenanceError, SettingsError
from keyvid.remarks import remark
from keyvid.sizes import format_size

_MOST_IDLE = 2  # processes kept for the next file
_WAITS = 6.0  # seconds that may pass for each of computing: other programs compute, too
_PATIENCE = 20.0  # seconds beyond that
_LENGTHS = (4, 8)  # bytes of the numbers that say how long an answer's two parts are
_ERRORS: dict[str, type[KeyvidError]] = {
    "media": MediaError,
    "provenance": ProvenanceError,
    "settings": SettingsError,
}
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from keyvid.runtime.media.decoder import serve; serve(int(sys.argv[2]))"
)


class Answer(NamedTuple):
    """What came of a file: JSON values, and the bytes of an array."""

    values: dict[str, Any]
    content: bytearray


@dataclass(frozen=True)
class Limits:
    """What decoding a file may take: seconds of computing, and bytes of memory."""

    seconds: float = 8.0
    memory: int = 900 << 20


class _DiedError(Exception):
    """The process ended without an answer; `code` as of `subprocess.Popen.returncode`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def decode(
    task: str, file: IO[bytes], name: str, limits: Limits = Limits(), **arguments: Any
) -> Answer:
    """What `task`, one of `keyvid.runtime.media.decoder`, makes of an open file.

    Its remarks are made here, in this thread.

    Args:
        file: has a descriptor; where it stands is changed.
        name: of the file, in messages.
        arguments: JSON values.
    Raises:
        MediaError, SettingsError: what is wrong with the file; it takes more than `limits`; its
            decoder died of it.
    """
    request = {
        "task": task,
        "seconds": limits.seconds,
        "memory": limits.memory,
        "arguments": {"name": name, **arguments},
    }
    patience = limits.seconds * _WAITS + _PATIENCE
    try:
        answer = _ask(json.dumps(request).encode(), file, patience)
    except TimeoutError:
        raise _too_slow(name, limits) from None
    except _DiedError as death:
        raise _why(death.code, name, limits) from None
    for text in answer.values["remarks"]:
        remark(text)
    if "error" in answer.values:
        if answer.values["kind"] == "memory":
            raise _too_large(name, limits)
        if answer.values["kind"] == "fault":
            raise RuntimeError(answer.values["error"])
        raise _ERRORS[answer.values["kind"]](answer.values["error"])
    return answer


def warm_up() -> None:
    """Start a process for the next file, which then is there sooner; it waits for nothing."""
    with _lock:
        if not _idle:
            _idle.append(_Process())


class _Process:
    """One process that decodes, a file after the other."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.used = False
        self._connection = ours
        # Not one of the standard streams, which may be closed here and are others there.
        descriptor = fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        theirs.close()
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _PROGRAM, paths, str(descriptor)],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"},
            )
        except (OSError, ValueError) as error:
            ours.close()
            raise EngineError(
                f"no process can be started to decode files in ({error}); "
                f"see that {sys.executable or 'python'} can be run, and end other programs"
            ) from error
        finally:
            os.close(descriptor)

    def ask(self, request: bytes, file: IO[bytes], patience: float) -> Answer:
        """Its answer; `patience` in seconds.

        Raises:
            TimeoutError: there is none in that time.
            _DiedError: there will be none.
        """
        self.used = True
        self._connection.settimeout(patience)
        try:
            message = request + b"\n"
            descriptors = array.array("i", [file.fileno()])
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
            sent = self._connection.sendmsg([message], rights)
            self._connection.sendall(message[sent:])
            lengths = [int.from_bytes(self._receive(size), "big") for size in _LENGTHS]
            values, content = (self._receive(length) for length in lengths)
            return Answer(json.loads(values), content)
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise _DiedError(self._process.wait()) from None

    def end(self) -> None:
        """End it, whatever it does."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, length: int) -> bytearray:
        content = bytearray(length)
        view = memoryview(content)
        while view:
            received = self._connection.recv_into(view)
            if not received:
                raise EOFError
            view = view[received:]
        return content


_idle: list[_Process] = []
_lock = threading.Lock()


def _ask(request: bytes, file: IO[bytes], patience: float) -> Answer:
    """The answer of an idle process, or of a new one.

    One that has decoded other files may have died of these: then the file gets another chance.
    """
    with _lock:
        process = _idle.pop() if _idle else _Process()
    was_used = process.used
    try:
        answer = process.ask(request, file, patience)
    except _DiedError as death:
        process.end()
        if was_used and death.code not in (-signal.SIGXCPU, -signal.SIGKILL):
            return _ask(request, file, patience)
        raise
    except BaseException:
        process.end()
        raise
    with _lock:
        if len(_idle) < _MOST_IDLE and not answer.values["is_large"]:
            _idle.append(process)
            return answer
    process.end()
    return answer


def _why(code: int, name: str, limits: Limits) -> MediaError:
    """What it means that a process ended with this code."""
    if code == -signal.SIGXCPU:
        return _too_slow(name, limits)
    if code == -signal.SIGKILL:  # as the system does where memory is short
        return _too_large(name, limits)
    if code < 0:
        died = signal.Signals(-code).name
        return MediaError(f"{name}: its decoder died of it ({died}); convert it to another format")
    return MediaError(
        f"{name}: the process that was to decode it ended with code {code}, see what it printed; "
        "install keyvid again"
    )


def _too_slow(name: str, limits: Limits) -> MediaError:
    return MediaError(
        f"{name}: takes more than {limits.seconds:.0f} s to decode; shorten, shrink or convert it"
    )


def _too_large(name: str, limits: Limits) -> MediaError:
    return MediaError(
        f"{name}: takes more than {format_size(limits.memory)} of memory to decode; "
        "shorten, shrink or convert it"
    )


def end_all() -> None:
    """End the processes that wait for a file; the next file starts another."""
    with _lock:
        while _idle:
            _idle.pop().end()


def _forget() -> None:
    """In a fork of this process: the processes are the other one's."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()


atexit.register(end_all)
os.register_at_fork(after_in_child=_forget)
