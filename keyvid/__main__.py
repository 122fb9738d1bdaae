"""`python -m keyvid`: the commands, each also installed under a name of its own."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import click

from keyvid.command import CONTEXT, run_command


class Entry(NamedTuple):
    """A command: the module whose `main` runs it, and what it is for."""

    module: str
    summary: str


COMMANDS = {
    "infer": Entry("keyvid.runtime.jobs.cli", "Animate a picture to a sound"),
    "doctor": Entry("keyvid.engines.doctor", "Show which engines work here and why others do not"),
    "cache": Entry(
        "keyvid.engines.tensorrt.cache_cli", "Build, trust, list or remove TensorRT plans"
    ),
    "verify": Entry("keyvid.verify.cli", "Check whether a clip is what its receipt says"),
    "score": Entry(
        "keyvid.score.command.cli", "Score how well clips follow their sound (needs keyvid[score])"
    ),
    "serve": Entry("keyvid.serve.cli", "Make clips over HTTP, with a page (needs keyvid[serve])"),
    "export": Entry("keyvid.export.cli", "Export a model to ONNX (needs keyvid[export])"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command that `args` begin with, or list them all; gives its exit code."""
    given = list(sys.argv[1:] if args is None else args)
    if given and given[0] in COMMANDS:
        run: int = import_module(COMMANDS[given[0]].module).main(given[1:])
        return run
    return run_command(_list(), "python -m keyvid", given or ["--help"])


class _AsListed(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _list() -> click.Group:
    """The list of commands; a module is imported only when its command runs."""
    commands = {name: click.Command(name, help=entry.summary) for name, entry in COMMANDS.items()}
    text = "Each command is also installed as keyvid-COMMAND; run it with --help for its options."
    group = _AsListed("keyvid", commands, help=text, context_settings=CONTEXT)
    return click.version_option(package_name="keyvid", message="%(prog)s %(version)s")(group)


if __name__ == "__main__":
    sys.exit(main())
