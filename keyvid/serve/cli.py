"""`keyvid-serve`: clips over HTTP, and a page to try it."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from keyvid.command import CONTEXT, common_options, run_command
from keyvid.errors import SettingsError
from keyvid.serve import logbook
from keyvid.serve.hosts import Hosts, is_loopback
from keyvid.serve.limits import Limits
from keyvid.serve.tokens import Tokens
from keyvid.sizes import format_size, parse_size

if TYPE_CHECKING:
    from keyvid.serve.crew import Crew
    from keyvid.serve.workshop import Workshop

_LINGER_SECONDS = 2.0  # for who watched the last clip to fetch it
_DEFAULTS = Limits()

log = logging.getLogger(__name__)


def main(args: Sequence[str] | None = None) -> int:
    """Run `keyvid-serve` and give its exit code, see `keyvid.command`."""
    return run_command(_serve, "keyvid-serve", args)


def _size(text: str) -> int:
    """Bytes of a size as people write it."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


_SECONDS = click.FloatRange(0, 1e7, min_open=True)


@click.command(context_settings=CONTEXT)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7860,
    show_default=True,
    help="Port to listen on",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    help="File with the token that clients must send; browsers ask for it as the password  "
    "[env: KEYVID_TOKEN, the token itself]",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with a token for each client, as lines of NAME TOKEN or NAME sha256:HEX",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Further host name to answer to, besides localhost and --host; * for any",
)
@click.option(
    "--root-path", default="", metavar="PATH", help="Path below which a proxy serves this server"
)
@click.option(
    "--trust-proxy",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Proxies whose X-Forwarded-For and -Proto are trusted, separated by commas",
)
@click.option("--no-page", is_flag=True, help="Serve only the API, without the web page")
@click.option(
    "--bundle", default="tiny", show_default=True, help="Model: a packaged name or a folder"
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Folder for orders and results, which outlive the server  "
    "[default: one for each port, in the user's folder for state]",
)
@click.option(
    "--store",
    metavar="URL",
    help="Database of the orders, such as postgresql://...  [default: a file in --data]",
)
@click.option(
    "--workers",
    type=click.IntRange(0, 256),
    default=1,
    show_default=True,
    help="Clips to make at a time, each in a process of its own; 0 leaves it to other machines",
)
@click.option(
    "--worker",
    is_flag=True,
    help="Only make the clips of a server that has the same --store and --data",
)
@click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="Engine: auto or a name that keyvid-doctor lists",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help="CPU threads of each worker  [default: all cores, shared out]",
)
@click.option(
    "--max-memory",
    type=_size,
    metavar="SIZE",
    help="Memory limit, such as 12G  [default: what is free]",
)
@click.option(
    "--max-upload",
    type=_size,
    metavar="SIZE",
    default=str(_DEFAULTS.upload_bytes),
    show_default=format_size(_DEFAULTS.upload_bytes),
    help="Largest upload, picture and sound together",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=_DEFAULTS.pixels,
    show_default=True,
    help="Most pixels of a picture",
)
@click.option(
    "--max-seconds",
    type=_SECONDS,
    default=_DEFAULTS.seconds,
    show_default=True,
    help="Longest clip",
)
@click.option(
    "--max-job-seconds",
    type=_SECONDS,
    default=_DEFAULTS.job_seconds,
    show_default=True,
    help="Longest time that making a clip may take",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 10_000),
    default=_DEFAULTS.queue,
    show_default=True,
    help="Most clips that may wait",
)
@click.option(
    "--queue-per-client",
    type=click.IntRange(1, 10_000),
    help="Most clips of one client that may wait  [default: those of --queue]",
)
@click.option(
    "--keep",
    type=_SECONDS,
    default=_DEFAULTS.keep_seconds,
    show_default=True,
    help="Seconds to keep results",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 1e7),
    default=_DEFAULTS.grace_seconds,
    show_default=True,
    help="Seconds to let running clips finish after SIGTERM; the next start goes on with others",
)
@click.option(
    "--stuck-seconds",
    type=_SECONDS,
    default=_DEFAULTS.stuck_seconds,
    show_default=True,
    help="Least time without progress after which a worker is ended and its clip tried again",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the lines on stderr",
)
@common_options
def _serve(host: str, port: int, no_page: bool, bundle: str, **options: Any) -> None:
    """Make clips over HTTP.

    The web page is at /, the API reference at /docs. Both can be reached from this machine only,
    unless --host says otherwise. What is ordered is made, also after a restart.
    """
    logbook.begin(options["log_format"])
    tokens = Tokens.read(os.environ.get("KEYVID_TOKEN"), options["token_file"], options["tokens"])
    _warn_if_open(host, tokens)
    root_path = _check_root_path(options["root_path"])
    _require(
        *("dbos", "fastapi", "fastapi_offline", "uvicorn", "python_multipart", "prometheus_client")
    )
    limits = Limits(
        upload_bytes=options["max_upload"],
        pixels=options["max_pixels"],
        seconds=options["max_seconds"],
        queue=options["queue"],
        queue_of_one=options["queue_per_client"],
        job_seconds=options["max_job_seconds"],
        keep_seconds=options["keep"],
        grace_seconds=options["grace"],
        stuck_seconds=options["stuck_seconds"],
    )

    from keyvid.bundle.manifest import Bundle
    from keyvid.bundle.structure import check_complete
    from keyvid.serve.app import make_app
    from keyvid.serve.data import JOBS, data_folder, default_store
    from keyvid.serve.metrics import Metrics
    from keyvid.serve.store import Store
    from keyvid.serve.workplace import workplace
    from keyvid.serve.workshop import Workshop

    loaded = Bundle.load(bundle)
    check_complete(loaded)
    if options["worker"]:
        _work_for_another(bundle, limits, options)
        return
    with workplace(), data_folder(options["data"], port) as folder:
        store = Store(options["store"] or default_store(folder))
        store.open()
        metrics = Metrics()
        metrics.watch_disk(folder)
        crew = _crew("local", bundle, limits, store.url, folder, options)
        workshop = Workshop(loaded, limits, folder / JOBS, store, crew, metrics)
        hosts = Hosts.of(host, options["allow_host"])
        app = make_app(workshop, tokens, hosts, has_page=not no_page)
        address = _Address(host, port, root_path, options["trust_proxy"])
        try:
            _run(app, workshop, crew, address)
        finally:
            crew.stop(0.0)
            store.close()


def _crew(
    name: str, bundle: str, limits: Limits, store: str, folder: Path, options: dict[str, Any]
) -> "Crew":
    """The worker processes that options ask for."""
    from keyvid.serve.crew import Crew, new_run
    from keyvid.serve.scheduling import Patience
    from keyvid.serve.worker import Work

    work = Work(
        name=name,
        run=new_run(),
        store=store,
        data=str(folder),
        bundle=bundle,
        engine=options["engine"],
        threads=options["threads"],
        max_memory=options["max_memory"],
        job_seconds=limits.job_seconds,
        grace_seconds=limits.grace_seconds,
        is_verbose=log.isEnabledFor(logging.INFO),
        log_format=options["log_format"],
    )
    patience = Patience(least=limits.stuck_seconds, most=2 * limits.job_seconds)
    return Crew(options["workers"], work, patience)


def _work_for_another(bundle: str, limits: Limits, options: dict[str, Any]) -> None:
    """Make clips until a signal asks to stop.

    Raises:
        SettingsError: it is not said for whom.
    """
    import socket

    data, store = options["data"], options["store"]
    if data is None or store is None:
        raise SettingsError(
            "--worker needs the --data and the --store of the server that it works for"
        )
    name = socket.gethostname()
    crew = _crew(name, bundle, limits, store, data.absolute(), options)
    try:
        logbook.note(f"{name} works on {crew.start()}")
        while True:
            sleep(_LINGER_SECONDS)
    except KeyboardInterrupt:  # SIGTERM too
        crew.stop(limits.grace_seconds)
    logbook.note("stopped")


@dataclass(frozen=True)
class _Address:
    """Where a server listens, and where a proxy shows it.

    Attributes:
        root_path: "" or such as /keyvid.
        proxies: whose X-Forwarded-* are believed.
    """

    host: str
    port: int
    root_path: str
    proxies: str


def _warn_if_open(host: str, tokens: Any) -> None:
    """Say what it means to listen beyond this machine without a token."""
    if tokens is None and not is_loopback(host):
        log.warning(
            "--host %s lets other machines in, and there is no token: whoever reaches this port "
            "can make clips, and see and delete those of others; give --tokens FILE or "
            "--token-file FILE",
            host,
        )


def _check_root_path(path: str) -> str:
    """`path` without a / at its end.

    Raises:
        SettingsError: it does not begin with one.
    """
    path = path.rstrip("/")
    if path and not path.startswith("/"):
        raise SettingsError(f"root path {path}: want a path that begins with /, such as /keyvid")
    return path


def _require(*modules: str) -> None:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise SettingsError(
                f"serving needs {module}, which cannot be imported ({error}); "
                "pip install 'keyvid[serve]'"
            ) from error


def _run(app: Any, workshop: "Workshop", crew: "Crew", at: _Address) -> None:
    """Serve until a signal asks to stop."""
    import uvicorn

    from keyvid.serve.connections import PatientProtocol

    class Server(uvicorn.Server):
        """Still answers while the running clip has its grace."""

        asked = False

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if self.asked:  # a second time
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
    socket = _bind(config)
    address = socket.getsockname()
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    engine = crew.start() if crew.num_workers else "other machines"
    logbook.note(f"jobs are kept in {crew.data}")
    logbook.note(f"http://{name}:{address[1]}/ on {engine}")
    Server(config).run([socket])
    logbook.note("stopped")


def _bind(config: Any) -> Any:
    """The socket to listen at.

    Raises:
        SettingsError: it cannot be had.
    """
    import socket

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError as error:
        listening.close()
        raise SettingsError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror or error}; "
            "choose another --host or --port"
        ) from error
    return listening
