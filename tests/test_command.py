"""How commands end: exit code, one line, and a traceback only for who asks."""

import logging
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from keyvid import __main__ as face
from keyvid import command as command_module
from keyvid.command import common_options, run_command, say
from keyvid.errors import KeyvidError

log = logging.getLogger("keyvid.test")
ROOT = Path(__file__).parents[1]


def run(action: Callable[[], object], *args: str) -> int:
    @click.command()
    @common_options
    def command() -> None:
        action()

    return run_command(command, "keyvid-test", args)


def fail(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def noted(note: str) -> KeyboardInterrupt:
    error = KeyboardInterrupt()
    error.add_note(note)
    return error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyvidError("a.png: bad; do this"), 2, "a.png: bad; do this"),
        (click.UsageError("Bad value."), 2, "Bad value. See keyvid-test --help."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (noted("a.mp4 written, not a.json"), 130, "interrupted, a.mp4 written, not a.json"),
        (MemoryError("Unable to allocate 9 TiB"), 1, "not enough memory: Unable to allocate 9 TiB"),
        (
            TypeError("odd\nand long"),
            1,
            "unexpected TypeError: odd; please report it, with what -v adds",
        ),
        (
            AssertionError(),
            1,
            "unexpected AssertionError: no message; please report it, with what -v adds",
        ),
    ],
)
def test_each_error_is_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fail(error)) == code
    assert capsys.readouterr() == ("", f"keyvid-test: {line}\n")


def test_verbose_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fail(TypeError("odd")), "-v") == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "Traceback (most recent call last):"
    assert last.startswith("keyvid-test: unexpected TypeError: odd")


def test_log_is_shown_by_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    def action() -> None:
        log.info("step")
        log.warning("beware")

    assert run(action) == 0
    assert capsys.readouterr().err == "keyvid-test: beware\n"
    assert run(action, "-v") == 0
    assert capsys.readouterr().err == "keyvid-test: step\nkeyvid-test: beware\n"
    assert run(action) == 0
    assert capsys.readouterr().err == "keyvid-test: beware\n"


WAIT = """
import signal, sys, time
import click
from keyvid.command import run_command

@click.command()
def command():
    try:
        click.echo("ready", err=True)
        time.sleep(60)
    finally:
        click.echo("tidied up", err=True)

# A shell starts background jobs, these tests perhaps among them, with the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.exit(run_command(command, "keyvid-test", []))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_stop_alike(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", WAIT], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == code
    assert err == "tidied up\nkeyvid-test: interrupted\n"


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run(lambda: None) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def shell(line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `keyvid` is `python -m keyvid`."""
    return subprocess.run(
        ["bash", "-c", f'keyvid() {{ "{sys.executable}" -m keyvid "$@"; }}; {line}'],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_reader_that_leaves_is_no_error() -> None:
    done = shell("keyvid doctor | true; echo ${PIPESTATUS[0]}")
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_closed_output_is_no_error() -> None:
    done = shell("keyvid doctor --help >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_lead_nowhere(closed: str, tmp_path: Path) -> None:
    """A file that is opened next would else be standard error, and hold what is said there."""
    code = f"""
import click, logging, sys
from keyvid.command import run_command
@click.command()
def command():
    with open({str(tmp_path / "written")!r}, "w") as file:
        file.write("content")
        sys.stderr.isatty(), sys.stdout.isatty()  # as progress asks
        print("a result")
        print("a remark", file=sys.stderr)
        logging.getLogger("keyvid").warning("a warning")
sys.exit(run_command(command, "name", []))
"""
    (tmp_path / "code.py").write_text(code)
    done = shell(f'"{sys.executable}" {tmp_path}/code.py {closed}')
    assert done.returncode == 0
    assert (tmp_path / "written").read_text() == "content"
    if closed == "<&-":
        assert (done.stdout, done.stderr) == ("a result\n", "a remark\nname: a warning\n")


@pytest.mark.parametrize(
    ("limit", "peak", "said"),
    [
        (resource.RLIM_INFINITY, 10**12, ""),
        (2 * 10**9, 10**9, ""),
        (
            10**9,
            8 * 10**8,
            "; memory may be why: ulimit -v allows 1 GB, of which 800 MB were taken",
        ),
    ],
)
def test_a_tight_limit_on_memory_is_said(
    limit: int, peak: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(command_module, "_peak_address_space", lambda: peak)
    assert command_module.error_line(KeyvidError("it failed")) == f"it failed{said}"
    assert command_module.error_line(MemoryError("bad")) == f"not enough memory: bad{said}"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_output_is_said() -> None:
    done = shell("keyvid doctor --help > /dev/full")
    assert done.returncode == 2
    assert done.stderr == "keyvid-doctor: standard output: No space left on device\n"


WINDOWS = """
import sys
from importlib import import_module
import psutil  # finds its own way there
from keyvid.__main__ import COMMANDS
for missing in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[missing] = None
sys.platform = "win32"
codes = {import_module(entry.module).main([]) for entry in COMMANDS.values()}
sys.exit(0 if codes == {2} else str(codes))
"""


def test_windows_is_refused_in_a_sentence() -> None:
    """Also where the modules are missing that exist on POSIX systems only."""
    command = [sys.executable, "-c", WINDOWS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = [
        f"keyvid-{name}: keyvid runs on Linux and macOS; on Windows run it in WSL"
        for name in face.COMMANDS
    ]
    assert done.stderr.splitlines() == lines


def test_commands_are_listed_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert face.main([]) == 0
    listed = re.findall(r"^  (\w+)  +(.+)$", capsys.readouterr().out.split("Commands:")[1], re.M)
    assert listed == [(name, entry.summary) for name, entry in face.COMMANDS.items()]


def test_a_command_runs_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert face.main(["cache", "--version"]) == 0
    assert capsys.readouterr().out.startswith("keyvid-cache ")


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert face.main(["paint"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"python -m keyvid: No such command 'paint'[^\n]*\n", printed.err)


WITHOUT = """
import runpy, sys
for name in {missing!r}:
    sys.modules[name] = None  # its import fails
sys.argv = ["python", "--help"]
runpy.run_module({module!r}, run_name="__main__")
"""


@pytest.mark.parametrize(
    "module", ["bench.quality", "bench.speed", "keyvid_ref.training", "keyvid_ref.world"]
)
def test_a_module_that_needs_torch_names_its_extra(module: str) -> None:
    code = WITHOUT.format(missing=("torch",), module=module)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    line = f"python -m {module}: torch is not installed; pip install 'keyvid[export]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


def test_documents_name_no_other_module_that_is_run() -> None:
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {
        name for path in documents for name in re.findall(r"python -m ([\w.]+)", path.read_text())
    }
    runs = {"keyvid", "bench.quality", "bench.speed", "keyvid_ref.training", "keyvid_ref.world"}
    runs |= {"bench.cold_start", "bench.hostile", "bench.scale", "bench.scale.live"}
    runs |= {"bench.scale.rate"}
    assert named <= runs | {"keyvid_ref.world.fetch", "tests.mutants"}


CHEAP = """
import sys
import keyvid.__main__
assert keyvid.__main__.main(["--help"]) == 0
loaded = {"numpy", "torch", "onnxruntime", "openvino", "av", "PIL", "rich"} & set(sys.modules)
sys.exit(str(loaded) if loaded else 0)
"""


def test_the_list_imports_no_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHEAP], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nothing_that_a_terminal_obeys_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b]0;title\x07b.mp4: 48 frames, \u202e\udcff\nsecond line")
    assert capsys.readouterr().err == (
        "a\\x1b]0;title\\x07b.mp4: 48 frames, \\u202e\\udcff\nsecond line\n"
    )


def test_a_process_ends_with_all_said_and_done() -> None:
    """Nothing is taken apart, but what was printed and registered comes first."""
    code = (
        "import atexit, sys\n"
        "from keyvid.command import end_process\n"
        "class Held:\n"
        "    def __del__(self): print('taken apart')\n"
        "held = Held()\n"
        "atexit.register(print, 'registered')\n"
        "print('said')\n"
        "end_process(3)\n"
    )
    run_it = [sys.executable, "-c", code]
    ended = subprocess.run(run_it, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "said\nregistered\n", "")
