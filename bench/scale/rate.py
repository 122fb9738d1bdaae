"""How many orders a second a running server takes: clients that post one after the other.

Start a server that makes no clips, and give its address:

\b
keyvid-serve --workers 0 --queue 10000 &
python -m bench.scale.rate hammer.png hammer.wav --clients 4
"""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np

from bench.scale.server import client_of
from keyvid.command import run_command
from keyvid.counting import counted


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_rate, "python -m bench.scale.rate", args)


@click.command(
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("audio", type=click.Path(path_type=Path))
@click.option("--url", default="http://127.0.0.1:7860", show_default=True)
@click.option("--clients", default=4, show_default=True)
@click.option("--seconds", default=10.0, show_default=True)
def _rate(image: Path, audio: Path, url: str, clients: int, seconds: float) -> None:
    end = time.monotonic() + seconds

    def post_until_end() -> list[float]:
        taken = []
        with client_of(url, image, audio) as server:
            while (began := time.monotonic()) < end:
                server.order()
                taken.append(time.monotonic() - began)
        return taken

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(post_until_end) for _ in range(clients)]
        taken = np.concatenate([future.result() for future in futures])
    click.echo(
        f"{counted(len(taken), 'order')} of {counted(clients, 'client')} in {seconds:g} s: "
        f"{len(taken) / seconds:.1f} a "
        f"second; an answer took {np.median(taken):.3f} s, 95 % at most "
        f"{np.percentile(taken, 95):.3f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
