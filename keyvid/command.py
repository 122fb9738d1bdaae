"""What every command of keyvid has in common: its options, and how it ends.

| exit code | |
| --- | --- |
| 0 | done, also where nobody reads standard output to its end |
| 1 | an error of ours, or no memory: one line, the traceback with `-v` |
| 2 | a mistake in the input: one line that says what to do |
| 3 | `keyvid-verify`: the clip is not what its receipt says |
| 129, 130, 143 | stopped by SIGHUP, SIGINT (Ctrl-C) or SIGTERM |
"""

import atexit
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from keyvid.errors import KeyvidError
from keyvid.sizes import format_sizes

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

Command = TypeVar("Command", bound=Callable[..., Any])

# Of `ulimit -v`, from where on it may be why something failed.
_TIGHT = 0.75

log = logging.getLogger("keyvid")


class Stopped(KeyboardInterrupt):
    """Another signal than Ctrl-C asks to stop; handled alike, so that all is tidied up."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def common_options(command: Command) -> Command:
    """Give a command `-v` and `--version`."""
    verbose = click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_set_level,
        help="Log each step, and print a traceback on errors",
    )
    version = click.version_option(package_name="keyvid", message="%(prog)s %(version)s")
    return verbose(version(command))


def run_command(command: click.Command, name: str, args: Sequence[str] | None) -> int:
    """Run `command` under the name `name`; gives its exit code, see above.

    What stopped work has to say (notes of a `KeyboardInterrupt`) follows the word "interrupted".
    """
    if sys.platform == "win32":
        return _fail(name, "keyvid runs on Linux and macOS; on Windows run it in WSL", 2)
    _open_standard_streams()
    try:
        with _log_lines(name), _signals_stop():
            return _invoke(command, name, args)
    except click.UsageError as error:
        return _fail(name, f"{error.format_message()} See {name} --help.", 2)
    except KeyboardInterrupt as stop:
        notes = ", ".join(["interrupted", *getattr(stop, "__notes__", [])])
        return _fail(name, notes, getattr(stop, "exit_code", 130))
    except Exception as error:
        if isinstance(error, OSError) and (failure := _failure_of_stdout()):
            is_pipe = isinstance(failure, BrokenPipeError)
            return 0 if is_pipe else _fail(name, f"standard output: {failure.strerror}", 2)
        _explain()
        return _fail(name, error_line(error), 2 if isinstance(error, KeyvidError) else 1)


def end_process(code: int) -> NoReturn:
    """End this process without taking apart what it holds.

    For networks that takes some tenths of a second, and the system frees them at once. What was
    registered with `atexit` is done before.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run_main(module: str, name: str, extra: str) -> int:
    """Run `main` of a module that needs the packages of an extra; gives the exit code."""
    try:
        main = import_module(module).main
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("bench", "keyvid", "keyvid_ref"):
            raise
        return _fail(name, f"{missing} is not installed; pip install 'keyvid[{extra}]'", 2)
    code: int = main()
    return code


def error_line(error: Exception) -> str:
    """What went wrong, in a line for people; with what stopped work has to say."""
    limit = _tight_limit()
    if isinstance(error, KeyvidError):
        return "; ".join([str(error), *getattr(error, "__notes__", []), *limit])
    if isinstance(error, MemoryError):
        return "; ".join([f"not enough memory: {_first_line(error)}", *limit])
    what = f"unexpected {type(error).__name__}: {_first_line(error)}"
    return "; ".join([what, *(limit or ["please report it, with what -v adds"])])


def _tight_limit() -> list[str]:
    """What to say of `ulimit -v` where this process has come close to it: libraries that found no
    memory then say what they like.
    """
    import resource  # not on Windows, where no command gets so far

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    peak = _peak_address_space()
    if limit == resource.RLIM_INFINITY or peak < _TIGHT * limit:
        return []
    allowed, taken = format_sizes(limit, peak)
    return [f"memory may be why: ulimit -v allows {allowed}, of which {taken} were taken"]


def _peak_address_space() -> int:
    """Bytes, 0 where the system does not say."""
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = re.search(r"^VmPeak:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def say(line: str) -> None:
    """Print to stderr what a terminal does not obey; nobody there to read is no reason to stop."""
    with suppress(OSError, ValueError):  # ValueError: it was closed
        click.echo(_printable(line), err=True)


def _printable(text: str) -> str:
    """`text` with all escaped that a terminal would take as an order, or could not show."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1]
        for letter in text
    )


def _open_standard_streams() -> None:
    """Let those that the caller closed lead nowhere; else the next file would take their place."""
    for descriptor, stream in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if getattr(sys, stream) is None:
            mode = "r" if stream == "stdin" else "w"
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _invoke(command: click.Command, name: str, args: Sequence[str] | None) -> int:
    try:
        with command.make_context(name, list(sys.argv[1:] if args is None else args)) as context:
            command.invoke(context)
        code = 0
    except click.exceptions.Exit as end:
        code = end.exit_code
    if sys.stdout:
        sys.stdout.flush()  # here, where an error is still ours to handle
    return code


def _set_level(context: click.Context, option: click.Parameter, verbose: bool) -> None:
    log.setLevel(logging.INFO if verbose else logging.WARNING)


class _LogLines(logging.Handler):
    """A line of stderr for each record, whatever `sys.stderr` is at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextmanager
def _log_lines(name: str) -> Iterator[None]:
    """Show the log of keyvid meanwhile."""
    handler = _LogLines()
    handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def _signals_stop() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Stopped` meanwhile, unless the caller handles or ignores them.

    The first one only: what is tidied up after it is not to be stopped by the next.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Stopped(number)

    ours = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if current_thread() is main_thread() and signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _failure_of_stdout() -> OSError | None:
    """Why standard output takes no line more; what is left in its buffer goes nowhere then."""
    try:
        os.write(1, b"\n")
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return error
    return None


def _explain() -> None:
    """The traceback of the error at hand, for who wants to know."""
    if log.isEnabledFor(logging.INFO):
        say(traceback.format_exc().rstrip())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


def _fail(name: str, message: str, code: int) -> int:
    say(f"{name}: {message}")
    return code
