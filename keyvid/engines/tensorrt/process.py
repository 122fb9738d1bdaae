"""The process that builds a TensorRT plan: started, listened to, and its end explained."""

import contextlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from keyvid.engines.tensorrt.builder import BuildRequest

_BUILDER = [sys.executable, "-P", "-m", "keyvid.engines.tensorrt.builder"]

log = logging.getLogger(__name__)


def run_builder(
    request: BuildRequest, lock: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The last message of a builder process, a failure if it ended without one.

    It inherits the lock, so that no other build begins while it lives, whatever becomes of us.
    """
    outcome: dict[str, Any] = {}
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            _BUILDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            pass_fds=(lock,),
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(asdict(request)))
            for line in process.stdout:
                message = json.loads(line)
                if "progress" in message:
                    progress(message["progress"])
                else:
                    outcome = message
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        messages.seek(0)
        lines = messages.read().decode(errors="replace").strip().splitlines()
    for line in lines:
        log.info("%s", line)
    if "record" in outcome and code == 0:
        return outcome
    if "failure" not in outcome:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        said = f" ({lines[-1][-300:]})" if lines else ""
        outcome = {"failure": f"the builder {how}{said}", "again": code < 0}
    return outcome
