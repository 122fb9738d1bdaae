"""What every command of keyvid does with a mistake: one line on stderr and an exit code."""

from collections.abc import Sequence

import click

from keyvid.errors import KeyvidError


def run_command(command: click.Command, name: str, args: Sequence[str] | None) -> int:
    """Run `command`; gives 0, 2 after a mistake in the input or 130 after Ctrl-C."""
    try:
        command.main(args, name, standalone_mode=False)
    except click.UsageError as error:
        return _fail(name, f"{error.format_message()} See {name} --help.", 2)
    except KeyvidError as error:
        return _fail(name, str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        return _fail(name, "interrupted, nothing written", 130)
    return 0


def _fail(name: str, message: str, code: int) -> int:
    click.echo(f"{name}: {message}", err=True)
    return code
