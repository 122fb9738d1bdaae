"""`--sign` and `--key`: who signs the clips that a command makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def signing_options(command: Command) -> Command:
    """Give a command the two options, as arguments `sign` and `key` for `signer_of`."""
    certificate = click.option(
        "--sign",
        metavar="CERTIFICATE",
        type=click.Path(path_type=Path),
        help="Sign each clip (C2PA): PEM file of the signer's certificate and its chain "
        "(needs [sign])",
    )
    key = click.option(
        "--key",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="PEM file of the private key for --sign",
    )
    return certificate(key(command))


def signer_of(sign: Path | None, key: Path | None) -> Any:
    """A `keyvid.provenance.credentials.Signer` that was tried, None where nobody is to sign.

    Raises:
        UsageError: only one of the two is given.
        ProvenanceError: they cannot sign, and why.
    """
    if (sign is None) != (key is None):
        raise click.UsageError("--sign and --key go together.")
    if sign is None or key is None:
        return None
    from keyvid.provenance.credentials import Signer  # only here, as --help is to come at once

    signer = Signer(sign, key)
    signer.check()
    return signer
