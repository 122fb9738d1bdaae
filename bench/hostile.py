"""What files that ask for much take: `python -m bench.hostile` measures the command and the server.

Memory is that of all processes together, as the system counts it to each (PSS), looked at ten times
a second. With `--innocent` the server also makes a clip of others meanwhile, which is compared with
one that it makes alone, in turns.
"""

import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import httpx2
import psutil

from keyvid.command import CONTEXT, say
from tests.runtime.media import hostile
from tests.serve.server import running

EXAMPLES = Path(__file__).parents[1] / "keyvid" / "examples"
STEPS = "10"


def _film() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        hostile.film_of_pngs(Path(folder) / "a.mov")
        return (Path(folder) / "a.mov").read_bytes()


PICTURES: dict[str, Callable[[], bytes]] = {
    "JPEG of 700 progressive scans": lambda: hostile.progressive_jpeg(700),
    "JPEG of 8 million comments": lambda: hostile.jpeg_with_comments(7_900_000),
    "JPEG without data": hostile.jpeg_without_data,
    "PNG of 1.2 million chunks": lambda: hostile.png_of_chunks(1_200_000),
    "PNG with 4 GB of texts": hostile.png_with_texts,
    "PNG with a profile of 2 GB": hostile.png_with_large_profile,
    "PNG of 150 gigapixels": lambda: hostile.png(3_000_000, 50_000, 0),
    "PNG of 89 megapixels": lambda: hostile.png(9459, 9459, 6),
    "GIF of 65,535 x 65,535": hostile.gif_header,
    "WebP animation of 16,384 x 16,384": hostile.webp_canvas,
    "TIFF whose strip holds 3 GB": lambda: hostile.tiff(2000, 2000, hostile.zeros(3 << 30)),
    "EPS that loops": lambda: hostile.EPS,
}
SOUNDS: dict[str, Callable[[], bytes]] = {
    "WAV of 64 channels at 1 MHz": lambda: hostile.wav(64, 1_000_000, 240_000),
    "MOV of 12 films of 16,000 x 16,000": _film,
}


class Taken(NamedTuple):
    """What something took: seconds, MB of memory, and what was said."""

    seconds: float
    megabytes: float
    said: str


@contextmanager
def watched(process_id: int) -> Iterator[list[float]]:
    """The most memory of a process and those that it started, in MB, within the block."""
    most = [0.0]
    is_over = threading.Event()

    def look() -> None:
        has_ended = False
        while not has_ended:
            most[0] = max(most[0], _memory(process_id))
            has_ended = is_over.wait(0.1)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


def _memory(process_id: int) -> float:
    total = 0.0
    try:
        root = psutil.Process(process_id)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_full_info().pss / 1e6
    except psutil.Error:  # one ended just now
        return 0.0
    return total


def by_command(image: Path, audio: Path) -> Taken:
    """`keyvid-infer` of these files; in seconds of the processors."""
    command = [sys.executable, "-m", "keyvid", "infer", str(image), str(audio), "--steps", "1"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, "-o", f"{folder}/a.mp4"], stderr=subprocess.PIPE, text=True
        )
        with watched(process.pid) as most:
            _, said = process.communicate()
    lines = said.strip().splitlines()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(seconds, most[0], lines[-1] if lines else "")


def innocent_seconds(url: str) -> float:
    """From an order of the drum to its clip."""
    begun = time.perf_counter()
    drum = {
        name: (EXAMPLES / f"drum.{kind}") for name, kind in (("image", "png"), ("audio", "wav"))
    }
    files = {name: path.read_bytes() for name, path in drum.items()}
    answer = httpx2.post(f"{url}/clips", files=files, data={"steps": STEPS}, timeout=120)
    job = answer.raise_for_status().json()
    while job["state"] in ("queued", "running"):
        time.sleep(0.05)
        job = httpx2.get(url + job["links"]["self"], timeout=60).json()
    if job["state"] != "done":
        raise RuntimeError(job["error"])
    return time.perf_counter() - begun


def by_server(url: str, files: dict[str, bytes]) -> Taken:
    """An order of these files; a clip that comes of it is deleted at once."""
    begun = time.perf_counter()
    with httpx2.Client(transport=httpx2.HTTPTransport(local_address="127.0.0.2")) as other:
        answer = other.post(f"{url}/clips", files=files, data={"steps": "1"}, timeout=120)
        seconds = time.perf_counter() - begun
        if answer.status_code == 202:
            other.delete(url + answer.json()["links"]["self"])
            return Taken(seconds, 0.0, "taken")
        return Taken(seconds, 0.0, answer.json()["detail"])


def measure_server(
    url: str, process: int, files: dict[str, bytes], innocent: bool
) -> tuple[Taken, str]:
    """What an order takes, and what an innocent clip takes beside it and alone."""
    alone = innocent_seconds(url) if innocent else 0.0
    taken: list[Taken] = []
    thread = threading.Thread(target=lambda: taken.append(by_server(url, files)))
    with watched(process) as most:
        thread.start()
        time.sleep(0.1)
        beside = innocent_seconds(url) if innocent else 0.0
        thread.join()
    clips = f"{beside:.1f} s, {alone:.1f} s" if innocent else "not measured"
    return taken[0]._replace(megabytes=most[0]), clips


@click.command(context_settings=CONTEXT)
@click.option("--innocent", is_flag=True, help="Make clips of others meanwhile")
def main(innocent: bool) -> None:
    """Print a table of what each file takes."""
    drum = {kind: (EXAMPLES / f"drum.{kind}").read_bytes() for kind in ("png", "wav")}
    made: list[tuple[str, dict[str, bytes]]] = [
        *((name, {"image": make(), "audio": drum["wav"]}) for name, make in PICTURES.items()),
        *((name, {"image": drum["png"], "audio": make()}) for name, make in SOUNDS.items()),
    ]
    say("| file | size | command | memory | server | memory | others' clip beside, alone | said |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(folder / "log", folder / "temporary", *_OPTIONS) as server:
            if innocent:
                innocent_seconds(server.url)
            for title, files in made:
                say(_row(folder, server, title, files, innocent))


_OPTIONS = ("--max-pixels", "100000000")


def _row(folder: Path, server: Any, title: str, files: dict[str, bytes], innocent: bool) -> str:
    for kind, content in files.items():
        (folder / kind).write_bytes(content)
    command = by_command(folder / "image", folder / "audio")
    ordered, clips = measure_server(server.url, server.process.pid, files, innocent)
    size = max(len(content) for content in files.values()) / 1e6
    return (
        f"| {title} | {size:.2f} MB | {command.seconds:.1f} s | {command.megabytes:.0f} MB | "
        f"{ordered.seconds:.1f} s | {ordered.megabytes:.0f} MB | {clips} | "
        f"{ordered.said} |"
    )


if __name__ == "__main__":
    main()
