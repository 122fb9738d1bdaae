"""Running a server: what listens, what is kept, who works; until a signal asks to stop."""

import base64
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import sleep
from types import FrameType

import uvicorn
from fastapi import FastAPI

from keyvid.bundle.manifest import Bundle
from keyvid.bundle.structure import check_complete
from keyvid.errors import SettingsError
from keyvid.provenance.credentials import Signer
from keyvid.serve import logbook
from keyvid.serve.app import make_app
from keyvid.serve.connections import PatientProtocol
from keyvid.serve.crew import Crew, new_run
from keyvid.serve.data import JOBS, data_folder, default_store
from keyvid.serve.hosts import Hosts
from keyvid.serve.limits import Limits
from keyvid.serve.metrics import Metrics
from keyvid.serve.scheduling import Patience
from keyvid.serve.store import Store
from keyvid.serve.tokens import Tokens
from keyvid.serve.webhook import read_secret
from keyvid.serve.work import Work
from keyvid.serve.workplace import workplace
from keyvid.serve.workshop import Workshop

_LINGER_SECONDS = 2.0  # for who watched the last clip to fetch it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where a server listens, and where a proxy shows it.

    Attributes:
        root_path: "" or such as /keyvid.
        proxies: whose X-Forwarded-* are believed.
    """

    host: str
    port: int
    root_path: str
    proxies: str


@dataclass(frozen=True)
class Front:
    """What of a server the world sees."""

    address: Address
    hosts: Hosts
    tokens: Tokens | None
    has_page: bool


@dataclass(frozen=True)
class Making:
    """How clips are made, and where they are kept.

    Attributes:
        data: folder, None for one of the user's own.
        store: address, None for a file in the folder.
        webhook_secret: file, None for one in the folder.
        engine, threads, max_memory: as of `keyvid.runtime.pipeline.Pipeline.load`, the last for
            all workers together.
        signer: who signs the clips, None for nobody.
    """

    num_workers: int
    bundle: str
    engine: str
    threads: int | None
    max_memory: int | None
    data: Path | None
    store: str | None
    webhook_secret: Path | None
    allow_private_webhooks: bool
    signer: Signer | None
    log_format: logbook.LogFormat


def run_front(front: Front, making: Making, limits: Limits) -> None:
    """Serve until a signal asks to stop.

    Raises:
        KeyvidError: it cannot be begun.
    """
    bundle = Bundle.load(making.bundle)
    check_complete(bundle)
    with (
        _listening(front.address) as listener,
        workplace(),
        data_folder(making.data, listener.getsockname()[1]) as folder,
    ):
        store = Store(making.store or default_store(folder))
        store.open()
        crew = _crew("local", store.url, folder, making, limits)
        metrics = Metrics()
        metrics.watch_disk(folder)
        workshop = Workshop(
            bundle,
            limits,
            folder / JOBS,
            store,
            crew,
            metrics,
            allow_private_webhooks=making.allow_private_webhooks,
        )
        app = make_app(workshop, front.tokens, front.hosts, front.has_page)
        try:
            engine = crew.start() if making.num_workers else "other machines"
            logbook.note(f"jobs are kept in {folder}")
            _serve(app, workshop, front.address, listener, engine)
        finally:
            crew.stop(0.0)
            store.close()
    logbook.note("stopped")


def run_workers(making: Making, limits: Limits) -> None:
    """Make the clips of a server elsewhere until a signal asks to stop.

    Raises:
        KeyvidError: it is not said of which, or they cannot work.
    """
    if making.data is None or making.store is None:
        raise SettingsError(
            "--worker needs the --data and the --store of the server that it works for"
        )
    name = socket.gethostname()
    crew = _crew(name, making.store, making.data.absolute(), making, limits)
    try:
        logbook.note(f"{name} works on {crew.start()}")
        while True:
            sleep(_LINGER_SECONDS)
    except KeyboardInterrupt:  # SIGTERM too
        crew.stop(limits.grace_seconds)
    logbook.note("stopped")


def _crew(name: str, store: str, folder: Path, making: Making, limits: Limits) -> Crew:
    default = folder / "webhook-secret"
    work = Work(
        name=name,
        run=new_run(),
        store=store,
        data=str(folder),
        bundle=making.bundle,
        engine=making.engine,
        threads=making.threads,
        max_memory=making.max_memory,
        job_seconds=limits.job_seconds,
        grace_seconds=limits.grace_seconds,
        webhook_secret=base64.b64encode(read_secret(making.webhook_secret or default)).decode(),
        allow_private_webhooks=making.allow_private_webhooks,
        certificate=str(making.signer.certificate.absolute()) if making.signer else None,
        key=str(making.signer.key.absolute()) if making.signer else None,
        is_verbose=log.isEnabledFor(logging.INFO),
        log_format=making.log_format,
    )
    patience = Patience(least=limits.stuck_seconds, most=2 * limits.job_seconds)
    return Crew(making.num_workers, work, patience)


def _serve(
    app: FastAPI, workshop: Workshop, at: Address, listener: socket.socket, engine: str
) -> None:
    class Server(uvicorn.Server):
        """Still answers while running clips have their grace."""

        asked = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.asked:  # a second time
                logging.getLogger("uvicorn.error").disabled = True  # it tells what it breaks off
                self.should_exit = self.force_exit = True
            self.asked = True
            Thread(target=self.end_work, daemon=True).start()

        def end_work(self) -> None:
            was_busy = workshop.is_busy
            workshop.stop(workshop.limits.grace_seconds)
            if was_busy:
                sleep(_LINGER_SECONDS)
            self.should_exit = True

    config = uvicorn.Config(
        app,
        host=at.host,
        port=at.port,
        root_path=at.root_path,
        forwarded_allow_ips=at.proxies,
        http=PatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    address = listener.getsockname()
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    logbook.note(f"http://{name}:{address[1]}/ on {engine}")
    Server(config).run([listener])


@contextmanager
def _listening(at: Address) -> Iterator[socket.socket]:
    """The socket to listen at.

    Raises:
        SettingsError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in at.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((at.host, at.port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {at.host} port {at.port}: {error.strerror or error}; "
                "choose another --host or --port"
            ) from error
        yield listener
