"""A store whose orders a thread of the test makes, in place of worker processes."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from keyvid.provenance.credentials import Signer
from keyvid.runtime.pipeline import Pipeline
from keyvid.serve.dispatch import Teller, dispatching
from keyvid.serve.limits import Limits
from keyvid.serve.maker import Maker
from keyvid.serve.metrics import Metrics
from keyvid.serve.store import Store
from keyvid.serve.workshop import Workshop


class Queue:
    """A store, and what its orders are made by: starting DBOS for each test would take a second.

    Attributes:
        maker: of the test at hand.
        is_ready: as of `keyvid.serve.workshop.Workers`.
    """

    num_workers = 1
    is_ready = True

    def __init__(self, store: Store) -> None:
        self.store = store
        self.maker: Maker | None = None
        self.is_idle = Event()
        self.is_idle.set()

    def make(self, order: str) -> dict[str, Any]:
        """Make an order as the test has it."""
        assert self.maker is not None, "a test is at hand"
        return self.maker.make(order)

    def stop(self, grace_seconds: float) -> None:
        """Wait until what is being made has ended, and the store has heard of it."""
        running = {row.id for row in self.store.live() if row.state == "running"}
        for _ in range(round(grace_seconds * 50)):
            if not running & {row.id for row in self.store.live()}:
                break
            time.sleep(0.02)

    def workshop(
        self,
        pipeline: Pipeline,
        folder: Path,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        *,
        allow_private_webhooks: bool = False,
        signer: Signer | None = None,
    ) -> Workshop:
        """One whose orders `pipeline` makes."""
        limits = limits or Limits()

        def on_job(job: str | None) -> None:
            self.is_idle.clear() if job else self.is_idle.set()

        self.maker = Maker(
            pipeline, folder, limits.job_seconds, "run", on_job, clock, signer=signer
        )
        return Workshop(
            pipeline.bundle,
            limits,
            folder,
            self.store,
            self,
            Metrics(),
            clock,
            allow_private_webhooks=allow_private_webhooks,
        )

    def empty(self) -> None:
        """Forget all orders, and wait until none is being made."""
        rows = self.store.all_since(0.0)
        for row in rows:
            self.store.cancel(row.id)
        assert self.is_idle.wait(20)
        self.store.forget([row.id for row in rows])


@contextmanager
def open_queue() -> Iterator[Queue]:
    """A queue within the block."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{folder}/store.sqlite")
        store.open()
        queue = Queue(store)
        with dispatching(store.url, "test", queue.make, Teller(bytes(32), allow_private=True)):
            yield queue
        store.close()
