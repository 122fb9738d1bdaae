"""The jobs of a file on a Ray cluster whose machines see the same files."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any

from keyvid.engines.backend import first_line
from keyvid.engines.spec import ENGINES
from keyvid.errors import EngineError, KeyvidError, SettingsError
from keyvid.runtime.jobs.batch import Outcome, run_entry
from keyvid.runtime.jobs.job_file import Entry
from keyvid.runtime.pipeline import Pipeline

try:
    import ray
    from ray.exceptions import RayActorError, RayTaskError
except ImportError as error:
    raise KeyvidError("--ray needs Ray; pip install 'keyvid[ray]'") from error

_RETRIES = 2  # of a job whose worker died


class Worker:
    """A pipeline in a process of its own.

    Args:
        folder: what the names of files are relative to.
        loading: arguments of `Pipeline.load`.
    """

    def __init__(self, folder: str, loading: dict[str, Any]) -> None:
        os.chdir(folder)
        self._loading = loading

    @cached_property
    def _pipeline(self) -> Pipeline:
        return Pipeline.load(**self._loading)

    def engine(self) -> str:
        """The engine's name; raises what keeps it from working."""
        return self._pipeline.engine.name

    def run(self, entry: Entry) -> Outcome:
        """Make one clip."""
        return run_entry(entry, self._pipeline)


def run_on_ray(
    loading: dict[str, Any], num_workers: int, entries: list[Entry]
) -> Iterator[Outcome]:
    """The jobs on the cluster that RAY_ADDRESS names, or that runs here, or that is started here.

    Outcomes come as they are there. A worker that dies is started again, and its job tried again.

    Args:
        loading: arguments of `Pipeline.load`.
        num_workers: 0 for one for each GPU, or as many as the CPUs have `threads`.
    Raises:
        KeyvidError: the workers cannot work.
    """
    if not entries:
        return
    _connect()
    num_workers, share = _divide(ray.cluster_resources(), loading, num_workers)
    loading = {**loading, "threads": share["num_cpus"] or loading["threads"]}
    remote = ray.remote(max_restarts=-1, max_task_retries=_RETRIES, **share)(Worker)
    num_workers = min(num_workers, len(entries))
    workers = [remote.remote(os.getcwd(), loading) for _ in range(num_workers)]
    try:
        ray.get([worker.engine.remote() for worker in workers])
        yield from _hand_out(entries, workers)
    except RayTaskError as error:
        raise error.cause from None
    except RayActorError as error:
        raise EngineError(f"a worker on Ray could not start: {first_line(error)}") from error
    finally:
        for worker in workers:
            ray.kill(worker)


def _connect() -> None:
    if ray.is_initialized():
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # it raises what it likes
        raise EngineError(
            f"cannot connect to Ray or start it here: {first_line(error)}; check RAY_ADDRESS"
        ) from error


def _divide(
    cluster: dict[str, float], loading: dict[str, Any], num_workers: int
) -> tuple[int, dict[str, int]]:
    """How many workers there are, and what of the cluster each one takes.

    Args:
        cluster: how many there are of "CPU" and "GPU".
    """
    num_cpus, num_gpus = (int(cluster.get(kind, 0)) for kind in ("CPU", "GPU"))
    spec = ENGINES.get(loading["engine"])  # None for "auto"
    if num_gpus and not (spec and spec.device == "cpu"):
        return min(num_workers or num_gpus, num_gpus), {"num_cpus": 0, "num_gpus": 1}
    threads = loading["threads"] or max(num_cpus // (num_workers or num_cpus or 1), 1)
    most = num_cpus // threads
    if not most:
        raise SettingsError(f"threads {threads}: the cluster has {num_cpus} CPUs; want fewer")
    return min(num_workers or most, most), {"num_cpus": threads}


def _hand_out(entries: list[Entry], workers: list[Any]) -> Iterator[Outcome]:
    """Each worker has one job at a time."""
    waiting = iter(entries)
    running = {w.run.remote(entry): (w, entry) for w, entry in zip(workers, waiting, strict=False)}
    while running:
        with redirect_stdout(sys.stderr):  # Ray prints that a worker died
            (ready,), _ = ray.wait([*running])
        worker, entry = running.pop(ready)
        try:
            outcome = ray.get(ready)
        except RayActorError:
            outcome = Outcome(
                entry, 0.0, f"its worker died {_RETRIES + 1} times, see the log of Ray"
            )
        if following := next(waiting, None):
            running[worker.run.remote(following)] = worker, following
        yield outcome
