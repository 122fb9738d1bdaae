"""The worker's side of the store: what is next in the queue is made, and its outcome kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dbos import DBOS

from keyvid.serve.store import (
    APPLICATION,
    FORMAT,
    QUEUE,
    WORKFLOW,
    JsonSerializer,
    log_as_ours,
)

_MOST_STARTS = 1000  # of an order; long before, its maker gives it up

Make = Callable[[str], dict[str, Any]]


@contextmanager
def dispatching(url: str, worker: str, make: Make, grace_seconds: float = 0.0) -> Iterator[None]:
    """Make orders within the block, one at a time, in a thread.

    What a worker of the same name was making when it ended is the first.

    Args:
        url: of the store, whose tables are there.
        make: called with the id of an order; gives its outcome as JSON values.
        grace_seconds: that the running one has at the end of the block.
    """
    log_as_ours()
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": url,
            "executor_id": worker,
            "application_version": FORMAT,
            "serializer": JsonSerializer(),
            "log_level": "WARNING",
            "enable_otlp": False,
            "run_migrations": False,
        }
    )

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=_MOST_STARTS)
    def clip(order: str, summary: dict[str, Any]) -> dict[str, Any]:
        return make(order)

    DBOS.listen_queues([QUEUE])
    DBOS.launch()
    log_as_ours()  # launching gives its logger a handler of its own
    try:
        yield
    finally:
        DBOS.destroy(workflow_completion_timeout_sec=round(grace_seconds))
