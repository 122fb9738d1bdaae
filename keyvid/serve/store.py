"""The store: which orders there are, in which order they are made, and how they ended.

It is a database that DBOS keeps: SQLite in a file, or Postgres for several machines.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dbos import DBOS, DBOSClient, Serializer, WorkflowStatus
from dbos import error as dbos_error
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from keyvid.errors import KeyvidError, SettingsError

APPLICATION = "keyvid"
QUEUE, WORKFLOW = "clips", "clip"
WEBHOOKS, TELLING = "webhooks", "tell"
_WEBHOOKS_AT_ONCE = 4  # of a worker: each may take its time to fail
FORMAT = "1"  # of orders; workers take those of their own

_SECONDS = 10.0  # for an answer of the store
_THREADS = 8  # that wait for one
_MOST_ROWS = 10_000
_POLL_SECONDS = 0.1  # after which a worker looks whether there is something to do
_SAY_AGAIN_SECONDS = 60.0
_STATES = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "running"}
_LIVE = [*_STATES]

log = logging.getLogger(__name__)


class StoreError(KeyvidError):
    """The store does not answer; what was asked of it may be tried again."""


class JsonSerializer(Serializer):
    """Values as JSON: reading them runs nothing, as unpickling would."""

    def serialize(self, data: Any) -> str:
        """An exception becomes its text."""
        return json.dumps(data, default=str)

    def deserialize(cls, serialized_data: str) -> Any:  # noqa: N805 # as in its base
        """What `serialize` made."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """By which the store knows it."""
        return "json"


@dataclass(frozen=True)
class Row:
    """What the store knows of an order.

    Attributes:
        state: "queued", "running", or how it ended.
        summary: what was said of it when it was put in; empty where that was not asked for.
        outcome: what its worker said, None before and where it said nothing.
        executor: the worker that has it or had it.
        started, ended: seconds since 1970, None where that was not yet.
    """

    id: str
    state: str
    stamp: int
    client: str
    summary: Mapping[str, Any]
    outcome: Mapping[str, Any] | None
    executor: str
    started: float | None
    ended: float | None


class Store:
    """The front's side of the store.

    Each call takes a few seconds at most, also where the database is locked or gone.

    Args:
        url: sqlite:///FILE or postgresql://...
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._threads = ThreadPoolExecutor(_THREADS, "store")
        self._client: DBOSClient | None = None

    def open(self) -> None:
        """Make its tables, where there are none.

        Raises:
            SettingsError: it cannot be used.
        """
        log_as_ours()
        try:
            _write_ahead(self.url)
            DBOS.migrate(self.url)
            self._client = DBOSClient(
                system_database_url=self.url,
                serializer=JsonSerializer(),
                application_name=APPLICATION,
                retry_connection_errors=False,
            )
            self._client.register_queue(
                QUEUE, worker_concurrency=1, polling_interval_sec=_POLL_SECONDS
            )
            self._client.register_queue(WEBHOOKS, worker_concurrency=_WEBHOOKS_AT_ONCE)
        except Exception as error:  # of many kinds: drivers, DBOS, files
            raise SettingsError(
                f"store {shown_url(self.url)}: {_reason(error)}; mend it, or move it away to "
                "begin with an empty one"
            ) from error

    def close(self) -> None:
        """Let it go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client:
            self._client.destroy()

    def put(self, order: str, stamp: int, client: str, summary: Mapping[str, Any]) -> None:
        """Have an order made in its turn; the smallest stamp goes first.

        Raises:
            StoreError: it does not answer. The order may be in it all the same.
        """
        self._ask(
            "enqueue",
            {
                "queue_name": QUEUE,
                "workflow_name": WORKFLOW,
                "workflow_id": order,
                "app_version": FORMAT,
                "priority": stamp,
                "authenticated_user": client,
            },
            order,
            dict(summary),
        )

    def live(self) -> list[Row]:
        """The orders that have not ended, without their summaries; raises as `put`."""
        rows = self._list(status=_LIVE, load_input=False, load_output=False, limit=_MOST_ROWS)
        return [_row(row) for row in rows]

    def all_since(self, ended: float) -> list[Row]:
        """Those that have not ended, and that ended after then, as they came; raises as `put`."""
        after = datetime.fromtimestamp(ended, UTC).isoformat()
        rows = self._list(completed_after=after, limit=_MOST_ROWS)
        rows += self._list(status=_LIVE, limit=_MOST_ROWS)
        by_id = {row.workflow_id: row for row in rows}
        return [_row(row) for row in sorted(by_id.values(), key=lambda row: row.created_at or 0)]

    def find(self, orders: Sequence[str]) -> list[Row]:
        """Those of these orders that are known; raises as `put`."""
        return [_row(row) for row in self._list(workflow_ids=[*orders])] if orders else []

    def old(self, ended: float, most: int) -> list[str]:
        """Orders that ended before then; raises as `put`."""
        before = datetime.fromtimestamp(ended, UTC).isoformat()
        rows = self._list(completed_before=before, limit=most, load_input=False, load_output=False)
        return [row.workflow_id for row in rows]

    def cancel(self, order: str) -> None:
        """Have an order not made; one that has ended stays as it is; raises as `put`."""
        self._ask("cancel_workflow", order)

    def forget(self, orders: Sequence[str]) -> None:
        """Know nothing of orders any more; raises as `put`."""
        if orders:
            self._ask("delete_workflows", [*orders], delete_children=True)

    def requeue(self, order: str) -> None:
        """Have an order made by another worker than the one that has it; raises as `put`."""
        self._ask("resume_workflow", order, queue_name=QUEUE)

    def _list(self, **filters: Any) -> list[WorkflowStatus]:
        rows: list[WorkflowStatus] = self._ask("list_workflows", name=WORKFLOW, **filters)
        return rows

    def _ask(self, call: str, *args: Any, **options: Any) -> Any:
        if self._client is None:
            raise StoreError("the store is not open")
        function: Callable[..., Any] = getattr(self._client, call)
        try:
            return self._threads.submit(partial(function, *args, **options)).result(_SECONDS)
        except CancelledError:
            raise StoreError("the store is closed") from None
        except TimeoutError:
            raise StoreError(f"the store has not answered for {_SECONDS:g} s") from None
        except (SQLAlchemyError, OSError, RuntimeError) as error:
            raise StoreError(f"the store: {_reason(error)}") from error


def log_as_ours() -> None:
    """Let what DBOS has to say stand in our log, and nowhere else."""
    logger = logging.getLogger("dbos")
    logger.handlers = [_Forwarding()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)


def _write_ahead(url: str) -> None:
    """Let an SQLite file be written with one wait for the disk, not three."""
    address = make_url(url)
    if address.get_backend_name() == "sqlite" and address.database:
        with closing(sqlite3.connect(address.database)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def shown_url(url: str) -> str:
    """A store's address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "(no address)"


class _Forwarding(logging.Handler):
    """Hands lines on; one that comes again and again, as while a database is gone, now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if _is_of_a_cancelled_one(record):
            return
        message = _first_line(record.getMessage())
        beginning = message[:40]
        now = time.monotonic()
        if now - self._said.get(beginning, -_SAY_AGAIN_SECONDS) >= _SAY_AGAIN_SECONDS:
            self._said[beginning] = now
            log.log(record.levelno, "store: %s", message)


def _is_of_a_cancelled_one(record: logging.LogRecord) -> bool:
    """Whether it only says that what came of an order is no longer wanted."""
    error = record.exc_info[1] if record.exc_info else None
    return "outcome was not recorded" in record.getMessage() or isinstance(
        error,
        dbos_error.DBOSAwaitedWorkflowCancelledError | dbos_error.DBOSNonExistentWorkflowError,
    )


def _row(row: WorkflowStatus) -> Row:
    output = row.output if isinstance(row.output, dict) else None
    state = _STATES.get(row.status, "cancelled" if row.status == "CANCELLED" else "failed")
    if row.status == "SUCCESS" and output:
        state = str(output["state"])
    arguments = row.input["args"] if row.input else ()
    return Row(
        id=row.workflow_id,
        state=state,
        stamp=row.priority or 0,
        client=row.authenticated_user or "",
        summary=arguments[1] if len(arguments) > 1 else {},
        outcome=output,
        executor=row.executor_id or "",
        started=row.dequeued_at / 1000 if row.dequeued_at else None,
        ended=row.completed_at / 1000 if row.completed_at else None,
    )


def _reason(error: BaseException) -> str:
    """What went wrong, in a line: what the database's driver says, where it is that."""
    return _first_line(str(getattr(error, "orig", None) or error) or type(error).__name__)


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
