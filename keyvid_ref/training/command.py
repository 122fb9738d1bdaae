"""Train the networks of the tiny model on the synthetic world: `python -m keyvid_ref.training`.

The parts (`keyvid_ref.training.parts`) are processes that wait for each other's files; each
finished network is `NAME.safetensors` in the folder of the run. A run that is started again goes on
where it stopped.
"""

import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import click
import torch

from keyvid_ref.presets import PRESETS
from keyvid_ref.training.parts import PARTS
from keyvid_ref.training.run import Run


@click.command()
@click.option(
    "--out",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/tiny"),
    show_default=True,
    help="Folder of the run: clips, checkpoints, losses, weights.",
)
@click.option(
    "--part",
    "chosen",
    type=click.Choice(list(PARTS)),
    multiple=True,
    help="Train only this part (repeatable); it waits for the files of earlier parts.",
)
@click.option("--device", default="cpu", show_default=True, help="Torch device: cpu or cuda.")
@click.option(
    "--clips",
    "num_clips",
    type=click.IntRange(min=1),
    default=6000,
    show_default=True,
    help="Clips to train on.",
)
@click.option(
    "--scale", default=1.0, show_default=True, help="Multiply the recipe's training times."
)
@click.option(
    "--seconds", type=float, help="Training time of each chosen part, instead of the recipe's."
)
@click.option("--steps", default=float("inf"), help="Most steps per phase of a part.")
@click.option(
    "--batch-scale", type=float, help="Multiply the batch sizes; default: 1/8 on a CPU, else 1."
)
@click.option(
    "--rate-scale", default=1.0, help="Multiply the learning rates; use less with --start."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Parts to train at once; default: 1 on a CPU, else all.",
)
@click.option("--crops", is_flag=True, help="Train the interpolator on crops first.")
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of weights to start from, where it has them.",
)
@click.option(
    "--recordings",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of recorded sounds to train on as well.",
)
def main(
    folder: Path,
    chosen: tuple[str, ...],
    device: str,
    num_clips: int,
    scale: float,
    seconds: float | None,
    steps: float,
    batch_scale: float | None,
    rate_scale: float,
    jobs: int | None,
    crops: bool,
    start: Path | None,
    recordings: Path | None,
) -> None:
    """Train the networks of the tiny model and write safetensors files."""
    on_cpu = device == "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise click.UsageError("--device cuda: torch finds no NVIDIA GPU here; use --device cpu")
    run = Run(
        folder=folder,
        preset=PRESETS["tiny"],
        device=torch.device(device),
        num_clips=num_clips,
        workers=torch.get_num_threads(),
        scale=scale,
        seconds=seconds,
        steps=steps,
        batch_scale=batch_scale or (1 / 8 if on_cpu else 1.0),
        rate_scale=rate_scale,
        crops=crops,
        start=start,
        recordings=recordings,
    )
    try:
        train(run, chosen or list(PARTS), jobs or (1 if on_cpu else len(PARTS)))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def train(run: Run, names: Sequence[str], jobs: int) -> None:
    """Train the named parts, in the order of `PARTS`, `jobs` at once; finished ones are left."""
    run.folder.mkdir(parents=True, exist_ok=True)
    waiting = [name for name in PARTS if name in names and not PARTS[name].is_finished(run)]
    if jobs == 1:
        for name in waiting:
            _train_part(run, name)
        return
    run = replace(run, threads=max(1, run.workers // jobs))
    running: list[SpawnProcess] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                running.append(SpawnProcess(target=_train_part, args=(run, name), name=name))
                running[-1].start()
            connection.wait([process.sentinel for process in running])
            for process in [process for process in running if not process.is_alive()]:
                running.remove(process)
                if process.exitcode:
                    raise click.ClickException(
                        f"part {process.name} failed, see above; the same command goes on from here"
                    )
    finally:
        for process in running:
            process.terminate()
            process.join()


def _train_part(run: Run, name: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if run.threads:
        torch.set_num_threads(run.threads)
    if run.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    PARTS[name](run)
    logging.getLogger(__name__).info("%s: finished", name)
