"""`keyvid-serve`: clips over HTTP, and a page to try it."""

import logging
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from keyvid.command import CONTEXT, common_options, run_command
from keyvid.errors import SettingsError
from keyvid.provenance.signing import signer_of, signing_options
from keyvid.serve import logbook
from keyvid.serve.hosts import Hosts, is_loopback
from keyvid.serve.limits import Limits
from keyvid.serve.tokens import Tokens
from keyvid.sizes import format_size, parse_size

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
    "--webhook-secret",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with the secret that webhooks are signed with  [default: one in --data, made once]",
)
@click.option(
    "--allow-private-webhooks",
    is_flag=True,
    help="Let webhooks lead to addresses of this machine and its network",
)
@signing_options
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
    if options["sign"] and not options["workers"]:
        raise click.UsageError("--sign is for who makes clips, and with --workers 0 none are made.")
    signer = signer_of(options["sign"], options["key"])
    limits = _limits_of(options)

    from keyvid.serve.running import Address, Front, Making, run_front, run_workers

    making = Making(
        num_workers=options["workers"],
        bundle=bundle,
        engine=options["engine"],
        threads=options["threads"],
        max_memory=options["max_memory"],
        data=options["data"],
        store=options["store"],
        webhook_secret=options["webhook_secret"],
        allow_private_webhooks=options["allow_private_webhooks"],
        signer=signer,
        log_format=options["log_format"],
    )
    if options["worker"]:
        run_workers(making, limits)
        return
    address = Address(host, port, root_path, options["trust_proxy"])
    hosts = Hosts.of(host, options["allow_host"])
    run_front(Front(address, hosts, tokens, not no_page), making, limits)


def _limits_of(options: dict[str, Any]) -> Limits:
    return Limits(
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
