"""The process in which files are decoded: its limits, its end, and the next file."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from keyvid.errors import MediaError
from keyvid.runtime.media import isolation
from keyvid.runtime.media.isolation import Limits, decode
from tests.runtime.media import hostile

EXAMPLES = Path(sys.modules["keyvid"].__path__[0]) / "examples"
WHOLE = {"height": 8, "width": 12, "fit": "crop", "place": (0.5, 0.5)}


@pytest.fixture
def whole() -> Iterator[IO[bytes]]:
    """A picture that nothing is wrong with."""
    with open(EXAMPLES / "drum.png", "rb", buffering=0) as file:
        yield file


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    isolation.end_all()
    yield
    isolation.end_all()


def _idle_process() -> int:
    """The number of the process that waits for the next file."""
    (process,) = isolation._idle
    return process._process.pid


def _hostile(tmp_path: Path, content: bytes) -> IO[bytes]:
    (tmp_path / "a").write_bytes(content)
    return open(tmp_path / "a", "rb", buffering=0)


def test_a_process_is_kept_for_the_next_file(whole: IO[bytes]) -> None:
    first = decode("picture", whole, "a.png", **WHOLE)
    number = _idle_process()
    assert decode("picture", whole, "a.png", **WHOLE) == first
    assert len(first.content) == 8 * 12 * 3
    with pytest.raises(MediaError, match="not a sound"):
        decode("sound", whole, "a.png", seconds=1.0, start=0.0, track=None)
    assert _idle_process() == number


@pytest.mark.security
def test_too_long_a_computation_ends_with_a_line(tmp_path: Path, whole: IO[bytes]) -> None:
    with _hostile(tmp_path, hostile.png(1, 60_000_000, 0)) as file:
        message = "a.png: takes more than 0 s to decode; shorten, shrink or convert it"
        with pytest.raises(MediaError, match=message):
            decode("picture", file, "a.png", Limits(seconds=0.1), **WHOLE)
    assert not isolation._idle
    assert decode("picture", whole, "a.png", **WHOLE)


@pytest.mark.security
def test_too_much_memory_ends_with_a_line(tmp_path: Path, whole: IO[bytes]) -> None:
    with _hostile(tmp_path, hostile.png(9000, 9000, 6)) as file:
        message = r"a.png: takes more than 105 MB of memory to decode; shorten, shrink or convert"
        with pytest.raises(MediaError, match=message):
            decode("picture", file, "a.png", Limits(memory=100 << 20), **WHOLE)
    assert decode("picture", whole, "a.png", **WHOLE)


@pytest.mark.security
def test_a_decoder_that_hangs_is_ended(whole: IO[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes nothing, so that only the clock tells."""
    decode("picture", whole, "a.png", **WHOLE)
    monkeypatch.setattr(isolation, "_PATIENCE", 0.2)
    monkeypatch.setattr(isolation, "_WAITS", 0.0)
    number = _idle_process()
    os.kill(number, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(MediaError, match="takes more than 8 s to decode"):
        decode("picture", whole, "a.png", **WHOLE)
    assert time.monotonic() - began < 5
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


@pytest.mark.security
def test_an_earlier_file_is_no_harm_to_the_next(whole: IO[bytes]) -> None:
    first = decode("picture", whole, "a.png", **WHOLE)
    os.kill(_idle_process(), signal.SIGSEGV)
    assert decode("picture", whole, "a.png", **WHOLE) == first


def test_several_files_at_once(whole: IO[bytes]) -> None:
    found = []

    def read() -> None:
        with open(EXAMPLES / "drum.png", "rb", buffering=0) as file:
            found.append(decode("picture", file, "a.png", **WHOLE).content)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 3
    assert len(isolation._idle) <= 2


def test_faults_of_ours_are_not_swallowed(whole: IO[bytes]) -> None:
    with pytest.raises(RuntimeError, match="TypeError"):
        decode("picture", whole, "a.png", height="eight")


LEFT = """
import os, sys
from keyvid.runtime.media import isolation
from keyvid.runtime.media.picture import load_image
load_image(sys.argv[1], 8, 12)
print(isolation._idle[0]._process.pid, flush=True)
os.kill(os.getpid(), int(sys.argv[2]))
"""


@pytest.mark.parametrize("number", [0, signal.SIGKILL])
def test_it_ends_with_the_one_who_asked(number: int) -> None:
    command = [sys.executable, "-c", LEFT, str(EXAMPLES / "drum.png"), str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -number
    assert done.stderr == ""
    for _ in range(200):
        try:
            os.kill(int(done.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("it is still there")


CLOSED = """
import os, sys
for descriptor in (0, 1, 2):
    os.close(descriptor)
from keyvid.runtime.media.picture import load_image
load_image(sys.argv[1], 8, 12)
os._exit(7)
"""


def test_closed_standard_streams() -> None:
    command = [sys.executable, "-c", CLOSED, str(EXAMPLES / "drum.png")]
    assert subprocess.run(command, check=False, timeout=60).returncode == 7


def test_nothing_is_imported_from_where_the_user_stands(tmp_path: Path) -> None:
    """A folder of strangers may hold a numpy.py."""
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    code = "import sys; sys.path.remove(''); from keyvid.runtime.media.picture import load_image; "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}load_image({str(EXAMPLES / 'drum.png')!r}, 8, 12)"],
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0


def test_samples_come_over_as_they_are() -> None:
    with open(EXAMPLES / "drum.wav", "rb", buffering=0) as file:
        answer = decode("sound", file, "a.wav", seconds=1.0, start=0.5, track=None)
    samples = np.frombuffer(answer.content, np.float32)
    assert samples.shape == (answer.values["rate"],)
    assert answer.values["shape"] == [answer.values["rate"], 1]
