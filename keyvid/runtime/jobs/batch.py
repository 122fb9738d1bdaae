"""Many jobs, one after the other, each with a line about what came of it."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from keyvid.command import error_line, say
from keyvid.counting import counted
from keyvid.errors import KeyvidError, MediaError
from keyvid.file_safety import beside, lock, open_regular
from keyvid.runtime.jobs.job_file import Entry, Fault
from keyvid.runtime.localizer import num_stages
from keyvid.runtime.media.sources import shown
from keyvid.runtime.networks.stages import Progress
from keyvid.runtime.outputs import (
    check_outputs,
    is_interrupted,
    make_outputs,
    tell_output,
)
from keyvid.runtime.pipeline import Pipeline
from keyvid.runtime.progress import ProgressDisplay, duration_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        seconds: that it took.
        error: why there is no clip, in one line; "" where there is one.
    """

    entry: Entry
    seconds: float
    error: str = ""


class Results:
    """The results file of a job file, a line for each job that ended; the last one of a job counts.

    Only one process at a time has it, within a `with` block.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "Results":
        try:
            descriptor = open_regular(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            # Closed in __exit__; unbuffered, so that closing writes nothing that can fail.
            self._file = open(descriptor, "a+b", buffering=0)
            lock(self._file.fileno())
            self._file.seek(0)
            content = self._file.read()
            if content and not content.endswith(b"\n"):  # whoever wrote it was killed
                self._write(b"\n")
        except BlockingIOError:
            self._file.close()
            raise MediaError(
                f"{shown(self.path)}: another process works on these jobs; wait for it"
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        self._made = _keys_of_clips(content)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, entry: Entry) -> bool:
        """Whether a job was done, and its files are there."""
        return entry.key in self._made and all(map(os.path.exists, entry.outputs.names))

    def add(self, outcome: Outcome) -> None:
        """Write what came of a job.

        Raises:
            MediaError: the file cannot be written.
        """
        entry, error = outcome.entry, outcome.error
        came = {"error": error} if error else {"seconds": round(outcome.seconds, 2)}
        self._add({"output": entry.name, **came, "line": entry.line, "job": entry.key})

    def add_fault(self, fault: Fault) -> None:
        """Write what is wrong with a line that is no job.

        Raises:
            MediaError: the file cannot be written.
        """
        self._add({"error": fault.error, "line": fault.line})

    def _add(self, row: dict[str, Any]) -> None:
        try:
            self._write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]

    def _unwritable(self, error: OSError) -> MediaError:
        return MediaError(f"{shown(self.path)}: cannot be written: {error.strerror or error}")


def _keys_of_clips(content: bytes) -> set[str]:
    """The jobs of whose lines in a results file the last one tells of a clip."""
    made = {}
    for line in content.splitlines():
        try:
            row = json.loads(line)
            made[row["job"]] = "error" not in row
        except (ValueError, LookupError, TypeError):
            continue  # a line that was cut off
    return {key for key, is_made in made.items() if is_made}


def run_jobs(
    path: Path,
    entries: list[Entry],
    faults: list[Fault],
    work: Callable[[list[Entry]], Iterable[Outcome]],
) -> None:
    """Do what is missing of the jobs of the file `path`, and say what came of each.

    Args:
        faults: the lines that are no jobs.
        work: gives the outcomes of jobs as they come.
    Raises:
        KeyvidError: the work could not begin or go on, or some jobs failed.
    """
    total = len(entries) + len(faults)
    with Results(beside(path, "", ".results.jsonl")) as results:
        for fault in faults:
            say(f"{shown(path)}, line {fault.line}: {fault.error}")
            results.add_fault(fault)
        missing = [entry for entry in entries if not results.has(entry)]
        num_made, num_failed = len(entries) - len(missing), len(faults)
        if num_made and missing:
            say(f"{shown(path)}: {num_made} of {total} clips made before")
        start = perf_counter()
        try:
            for number, outcome in enumerate(work(missing), 1):
                results.add(outcome)
                num_failed += bool(outcome.error)
                num_made += not outcome.error
                pace = (perf_counter() - start) / number
                _tell(outcome, number, len(missing), pace)
        except KeyboardInterrupt as stop:
            all_of_them = counted(total, "clip")
            stop.add_note(f"{num_made} of {all_of_them} made, the same command makes the rest")
            raise
    if num_failed:
        raise KeyvidError(
            f"{num_failed} of {counted(total, 'job')} failed, see {shown(results.path)}; "
            "the same command tries them again"
        )
    took = duration_text(perf_counter() - start)
    made = f"{len(missing)} of them made in {took}" if missing else "all made before"
    say(f"{shown(path)}: {counted(total, 'clip')}, {made}")


def run_here(loading: dict[str, Any], entries: list[Entry]) -> Iterator[Outcome]:
    """The jobs in this process, whose networks stay open.

    Args:
        loading: arguments of `Pipeline.load`.
    """
    if not entries:
        return
    with Pipeline.load(**loading) as pipeline:
        for number, entry in enumerate(entries, 1):
            yield run_entry(entry, pipeline, f"clip {number} of {len(entries)}")


def run_entry(entry: Entry, pipeline: Pipeline, title: str | None = None) -> Outcome:
    """Make one clip; what goes wrong is told in the outcome.

    Args:
        title: of what is shown of its progress, None to show nothing.
    """
    start, error = perf_counter(), ""
    try:
        outputs = entry.outputs
        check_outputs(outputs, entry.request.files.values())
        prepared = pipeline.prepare(entry.request)
        resume = is_interrupted(outputs.output)
        with _showing(title, num_stages(pipeline.bundle, prepared)) as progress:
            make_outputs(outputs, prepared, pipeline, progress, resume=resume)
    except Exception as failure:
        error = error_line(failure)
        log.info("%s failed", entry.name, exc_info=not isinstance(failure, KeyvidError))
    return Outcome(entry, perf_counter() - start, error)


def _showing(title: str | None, stages: int) -> AbstractContextManager[Progress | None]:
    return nullcontext() if title is None else ProgressDisplay(stages, title=title)


def _tell(outcome: Outcome, number: int, total: int, pace: float) -> None:
    """A line for people: what came of a job, which one it is, and how long the rest takes.

    Args:
        pace: seconds a job.
    """
    left = f", {duration_text(pace * (total - number))} left" if number < total else ""
    entry = outcome.entry
    if outcome.error:
        came = f"failed: {outcome.error}"
    else:
        came = f"in {duration_text(outcome.seconds)}"
        tell_output(entry.outputs.output)
    say(f"{number} of {total}{left}: {entry.name} {came}")
