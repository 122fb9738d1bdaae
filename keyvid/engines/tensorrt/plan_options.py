"""Options of the commands that build TensorRT plans."""

from typing import Any

import click

from keyvid.command import Command
from keyvid.sizes import parse_size


def _parse(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    try:
        return parse_size(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def plan_options(command: Command) -> Command:
    """Give a command `--target`, `--max-memory` and `--with-plans`, see `PlanOptions`."""
    options: list[Any] = [
        click.option(
            "--target",
            metavar="GPUS",
            help="GPUs to build tensorrt-rtx plans for, such as sm86,sm89,sm120, or portable (8.6, "
            "8.9 and 12.0); no GPU is needed here [default: the GPU in this machine]",
        ),
        click.option(
            "--max-memory",
            callback=_parse,
            metavar="SIZE",
            help="Memory limit for building one plan, such as 12G [default: no limit]",
        ),
        click.option(
            "--with-plans",
            is_flag=True,
            help="Store plans in the bundle, for devices of your own; a new export removes them",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command
