"""`keyvid-serve`: clips over HTTP, and a page to try it."""

import logging
from collections.abc import Sequence
from importlib import import_module
from threading import Thread
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from keyvid.command import CONTEXT, common_options, run_command, say
from keyvid.errors import SettingsError
from keyvid.serve.limits import Limits
from keyvid.sizes import format_size, parse_size

if TYPE_CHECKING:
    from keyvid.serve.workshop import Workshop

_LINGER_SECONDS = 2.0  # for who watched the last clip to fetch it
_MOST_CONNECTIONS = 200
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
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@click.option(
    "--token", envvar="KEYVID_TOKEN", show_envvar=True, help="Ask for it; browsers: as password"
)
@click.option("--no-page", is_flag=True, help="Only the interface; gradio is not needed then")
@click.option("--bundle", default="tiny", show_default=True, help="Model: name or folder")
@click.option("--engine", default="auto", show_default=True, help="As keyvid-doctor lists them")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads  [default: all cores]")
@click.option("--max-memory", type=_size, metavar="SIZE", help="As of keyvid-infer")
@click.option(
    "--max-upload",
    type=_size,
    metavar="SIZE",
    default=str(_DEFAULTS.upload_bytes),
    show_default=format_size(_DEFAULTS.upload_bytes),
    help="Of picture and sound together",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1),
    default=_DEFAULTS.pixels,
    show_default=True,
    help="Of a picture",
)
@click.option(
    "--max-seconds", type=_SECONDS, default=_DEFAULTS.seconds, show_default=True, help="Of a clip"
)
@click.option(
    "--max-job-seconds",
    type=_SECONDS,
    default=_DEFAULTS.job_seconds,
    show_default=True,
    help="That the making of a clip may take",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 10_000),
    default=_DEFAULTS.queue,
    show_default=True,
    help="Clips that may wait",
)
@click.option(
    "--keep",
    type=_SECONDS,
    default=_DEFAULTS.keep_seconds,
    show_default=True,
    help="Seconds that results are kept",
)
@click.option(
    "--grace",
    type=click.FloatRange(0, 1e7),
    default=_DEFAULTS.grace_seconds,
    show_default=True,
    help="Seconds for the running clip after SIGTERM",
)
@common_options
def _serve(
    host: str, port: int, token: str | None, no_page: bool, bundle: str, **options: Any
) -> None:
    """Make clips for whoever asks over HTTP.

    The page is at /, the description of the interface at /docs, both only for this machine unless
    --host says otherwise. Clips are made one after the other.
    """
    if token is not None and not token.strip():
        raise SettingsError("the token is empty; give one, or leave --token out")
    _require(["fastapi", "uvicorn", "python_multipart", "prometheus_client"], "")
    if not no_page:
        _require(["gradio"], ", or leave the page out with --no-page")
    limits = Limits(
        upload_bytes=options["max_upload"],
        pixels=options["max_pixels"],
        seconds=options["max_seconds"],
        queue=options["queue"],
        job_seconds=options["max_job_seconds"],
        keep_seconds=options["keep"],
        grace_seconds=options["grace"],
    )

    from keyvid.runtime.pipeline import Pipeline
    from keyvid.serve.app import make_app
    from keyvid.serve.metrics import Metrics
    from keyvid.serve.workplace import workplace
    from keyvid.serve.workshop import Workshop

    with (
        workplace() as folder,
        Pipeline.load(
            bundle, options["engine"], threads=options["threads"], max_memory=options["max_memory"]
        ) as pipeline,
    ):
        workshop = Workshop(pipeline, limits, folder, Metrics())
        app = make_app(workshop, token)
        if not no_page:
            from keyvid.serve.page import add_page

            add_page(app, workshop)
        _run(app, workshop, host, port)


def _require(modules: list[str], otherwise: str) -> None:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise SettingsError(
                f"serving needs {module}, which cannot be imported ({error}); "
                f"pip install 'keyvid[serve]'{otherwise}"
            ) from error


def _run(app: Any, workshop: "Workshop", host: str, port: int) -> None:
    """Serve until a signal asks to stop."""
    import uvicorn

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
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    socket = _bind(config)
    address = socket.getsockname()
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    say(f"keyvid-serve: http://{name}:{address[1]}/ on {workshop.pipeline.engine.name}")
    Server(config).run([socket])
    say("keyvid-serve: stopped")


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
            f"cannot listen at {config.host} port {config.port}: {error.strerror or error}; "
            "choose another --host or --port"
        ) from error
    return listening
