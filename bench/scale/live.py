"""The simulation beside a running server: the same orders at the same times, sent and simulated.

Start a server of two workers that nobody else uses, and give its address:

\b
keyvid-serve --workers 2 --queue 1000 &
python -m bench.scale.live hammer.png hammer.wav --workers 2

How long clips take is measured first, with all workers busy; nothing is fitted to the comparison.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from bench.scale.arrivals import DAY, Order, draw_orders
from bench.scale.costs import Costs
from bench.scale.plan import WHOLE, Outcome, Plan
from bench.scale.plant import Plant
from bench.scale.server import Made, Server, client_of
from keyvid.command import run_command
from keyvid.score.report import Table
from keyvid.serve.scheduling import Rules

_LENGTHS = {1.0: 0.7, 2.0: 0.2, 3.0: 0.1}  # in segments
_SIMULATED = 40  # runs with other seeds of the spread


def main(args: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code, see `run_command`."""
    return run_command(_live, "python -m bench.scale.live", args)


@click.command(
    help=__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("audio", type=click.Path(path_type=Path))
@click.option("--url", default="http://127.0.0.1:7860", show_default=True)
@click.option("--workers", default=2, show_default=True, help="That the server has")
@click.option("--orders", default=100, show_default=True, help="For each load")
@click.option("--busy", multiple=True, default=[0.5, 0.7, 0.9], show_default=True, type=float)
@click.option("--form", multiple=True, metavar="NAME=VALUE", help="Field of all orders")
@click.option("--seed", default=0, show_default=True)
def _live(
    image: Path,
    audio: Path,
    url: str,
    workers: int,
    orders: int,
    busy: tuple[float, ...],
    form: tuple[str, ...],
    seed: int,
) -> None:
    table = Table(["busy", "", "mean wait", "p95 of wait", "clips a minute"], [])
    with client_of(url, image, audio, *form) as server:
        costs, spread = measure(server, workers)
        click.echo(f"a clip of two seconds takes {costs.clip(1):.2f} s, all workers busy\n")
        plan = Plan(costs, {WHOLE: workers}, Rules(waiting=10_000), spread=spread)
        for share in busy:
            wanted = list(draw_load(share, orders, workers, costs, seed))
            made = send(server, wanted)
            rows = {"server": [outcome_of(made)], "simulated": simulate(plan, wanted, made)}
            table.rows += [[f"{share:.0%}", name, *_told(of)] for name, of in rows.items()]
            click.echo(f"{table}\n")


def measure(server: Server, workers: int) -> tuple[Costs, tuple[float, ...]]:
    """What clips of each length take with all workers busy, and how far single ones are off."""
    lengths = [segments for segments in _LENGTHS for _ in range(4 * workers)]
    for name in [server.order(1.0) for _ in range(2 * workers)]:  # until all networks are open
        server.wait_for(name, 1.0)
    made = [
        server.wait_for(server_id, n) for server_id, n in [(server.order(n), n) for n in lengths]
    ]
    taken = np.array([clip.ended - clip.started for clip in made])
    slope, start = np.polyfit([clip.segments for clip in made], taken, 1)
    costs = Costs("the server", "measured", 0, 0, max(start, 0.0), slope, 0.0, 0.0, (1, 1))
    spread = taken / np.array([costs.clip(clip.segments) for clip in made])
    return costs, tuple(spread.tolist())


def draw_load(share: float, number: int, workers: int, costs: Costs, seed: int) -> Iterator[Order]:
    """So many orders, at a rate that keeps workers busy for that share of the time."""
    mean = sum(costs.clip(segments) * part for segments, part in _LENGTHS.items())
    per_day = share * workers / mean * DAY
    drawn = draw_orders(per_day, 3 * number / per_day * DAY, seed=seed, segments=_LENGTHS)
    for _, order in zip(range(number), drawn, strict=False):
        yield replace(order, client="bench")


def send(server: Server, orders: Sequence[Order]) -> list[Made]:
    """Order clips at their times; gives all that were made."""
    began = time.monotonic()
    names = []
    for order in orders:
        time.sleep(max(began + order.at - time.monotonic(), 0.0))
        names.append(server.order(order.segments))
    pairs = zip(names, orders, strict=True)
    return [server.wait_for(name, order.segments) for name, order in pairs]


def simulate(plan: Plan, orders: Sequence[Order], made: Sequence[Made]) -> list[Outcome]:
    """What a plan makes of orders at the times at which they came to the server."""
    first = made[0].created
    came = [replace(o, at=m.created - first) for o, m in zip(orders, made, strict=True)]
    return [Plant(plan, other).run(came) for other in range(_SIMULATED)]


def outcome_of(made: Sequence[Made]) -> Outcome:
    """The same numbers as a simulation gives."""
    return Outcome(
        waits=[clip.started - clip.created for clip in made],
        delays=[clip.ended - clip.created for clip in made],
        busy=sum(clip.ended - clip.started for clip in made),
        duration=max(clip.ended for clip in made) - min(clip.created for clip in made),
    )


def _told(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield f"{np.mean([one.mean_wait for one in outcomes]):.2f} s"
    yield f"{np.mean([one.wait(95) for one in outcomes]):.2f} s"
    yield f"{np.mean([60 * len(one.waits) / one.duration for one in outcomes]):.1f}"


if __name__ == "__main__":
    sys.exit(main())
