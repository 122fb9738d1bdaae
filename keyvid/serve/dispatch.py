"""The worker's side of the store: orders are made in their turn, their outcome is kept and told."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dbos import DBOS
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import OperationalError

from keyvid.errors import SettingsError
from keyvid.serve.store import (
    APPLICATION,
    FORMAT,
    QUEUE,
    TELLING,
    WEBHOOKS,
    WORKFLOW,
    JsonSerializer,
    log_as_ours,
)
from keyvid.serve.webhook import deliver, message_of

_MOST_STARTS = 1000  # of an order; long before, its maker gives it up
_MOST_DELIVERIES = 10
_FIRST_WAIT_SECONDS = 5.0  # after a delivery that failed; then twice as long each time

Make = Callable[[str], dict[str, Any]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Teller:
    """How webhooks are sent.

    Attributes:
        secret: the key that they are signed with.
        allow_private: whether they may lead into our own network.
    """

    secret: bytes
    allow_private: bool = False

    def tell(self, order: str, url: str, body: str) -> None:
        """Send one; raises as `keyvid.serve.webhook.deliver`."""
        deliver(
            url,
            body.encode(),
            self.secret,
            message_id=f"msg_{order}",
            allow_private=self.allow_private,
        )


@contextmanager
def dispatching(
    url: str, worker: str, make: Make, teller: Teller, grace_seconds: float = 0.0
) -> Iterator[None]:
    """Make orders within the block, one at a time, in a thread.

    What a worker of the same name was making when it ended is the first.

    Args:
        url: of the store, whose tables are there.
        make: called with the id of an order; gives its outcome as JSON values.
        grace_seconds: that the running one has at the end of the block.
    """
    log_as_ours()
    event.listen(Engine, "handle_error", _as_lock)
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

    @DBOS.step(
        name="send",
        retries_allowed=True,
        max_attempts=_MOST_DELIVERIES,
        interval_seconds=_FIRST_WAIT_SECONDS,
        should_retry=lambda error: not isinstance(error, SettingsError),
    )
    def send(order: str, webhook: str, body: str) -> None:
        teller.tell(order, webhook, body)

    @DBOS.workflow(name=TELLING, max_recovery_attempts=_MOST_STARTS)
    def tell(order: str, webhook: str, body: str) -> None:
        try:
            send(order, webhook, body)
        except Exception as error:  # of DBOS, where all deliveries have failed
            log.warning("job %s: %s", order, error)

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=_MOST_STARTS)
    def clip(order: str, summary: dict[str, Any]) -> dict[str, Any]:
        outcome = make(order)
        if (webhook := summary.get("webhook")) and outcome["state"] != "cancelled":
            # A workflow of its own: the next clip does not wait for its receiver.
            DBOS.enqueue_workflow(WEBHOOKS, tell, order, webhook, message_of(order, outcome))
        return outcome

    DBOS.listen_queues([QUEUE, WEBHOOKS])
    DBOS.launch()
    log_as_ours()  # launching gives its logger a handler of its own
    try:
        yield
    finally:
        DBOS.destroy(workflow_completion_timeout_sec=round(grace_seconds))


def _as_lock(context: ExceptionContext) -> None:
    """Let a full disk under SQLite count as a lock, for whose end DBOS waits.

    Otherwise it gives up, and what came of an order is never known.
    """
    if "disk is full" in str(context.original_exception):
        locked = sqlite3.OperationalError("database is locked, as its disk is full")
        raise OperationalError(context.statement, None, locked)
