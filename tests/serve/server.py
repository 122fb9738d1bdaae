"""`keyvid-serve` in a process of its own, on a port that the system chooses."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAIN = "import sys; from keyvid.serve.cli import main; sys.exit(main())"
# The same with workers that make something else than clips of networks.
DRAWN = (
    """import sys
from keyvid.serve import crew
crew.COMMAND = (sys.executable, "-m", "tests.serve.drawn_worker")
"""
    + MAIN
)
ROOT = Path(__file__).parents[2]


class Server:
    """A running server.

    Attributes:
        process: send it signals.
        url: without a / at its end.
    """

    def __init__(
        self,
        log: Path,
        temporary: Path,
        data: Path,
        *options: str,
        main: str = MAIN,
        listens: bool = True,
    ) -> None:
        self._log = log
        self._file = log.open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-c", main, "--port", "0", "--data", str(data), *options],
            stderr=self._file,
            cwd=ROOT,
            env={"TMPDIR": str(temporary), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        )
        self.url = self._wait_for_url() if listens else ""

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        self._file.close()

    def _wait_for_url(self) -> str:
        for _ in range(1200):
            if found := re.search(r"(http://\S+)/ on ", self.log):
                return found[1]
            if self.process.poll() is not None:
                break
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        self.close()
        raise AssertionError(f"no server: {self.log}")


@contextmanager
def running(
    log: Path, temporary: Path, *options: str, data: Path | None = None, main: str = MAIN
) -> Iterator[Server]:
    """A server within the block; its temporary files lie in `temporary`, its jobs in `data`.

    Args:
        main: `MAIN` or `DRAWN`.
    """
    temporary.mkdir(exist_ok=True)
    server = Server(log, temporary, data or log.with_name("data"), *options, main=main)
    try:
        yield server
    finally:
        server.close()
