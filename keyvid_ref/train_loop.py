"""The training loop that every network shares: resumable, seeded, with averaged weights."""

import csv
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from keyvid_ref import train_parallel as parallel

_log = logging.getLogger(__name__)
_WARMUP_STEPS = 100
_LOG_EVERY = 50
_CHECKPOINT_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: AdamW with warm-up and cosine decay to a twentieth."""

    steps: int
    learning_rate: float = 1e-3
    beta2: float = 0.999
    weight_decay: float = 0.01
    ema_decay: float = 0.998

    def rate(self, step: int) -> float:
        """Learning rate at `step`, relative to the highest."""
        warmup = min(1.0, (step + 1) / _WARMUP_STEPS)
        return warmup * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def fit(
    name: str,
    module: nn.Module,
    loss_of_batch: Callable[[nn.Module, np.random.Generator], Tensor],
    recipe: Recipe,
    folder: Path,
    validate: Callable[[nn.Module], float] | None = None,
) -> None:
    """Train `module` in place and leave it with the averaged weights.

    Every batch is drawn from a generator seeded by its step, so that a run that was killed goes on
    from its last checkpoint as if nothing had happened. Losses go to `NAME.csv`. Where several
    processes train together (`train_parallel`), each calls this with its share of the batch.
    The end leaves `NAME.finished.safetensors`; where that lies already, its weights are the result.

    Args:
        loss_of_batch: (module, generator) -> scalar loss.
        validate: the averaged module's loss on held-out data, logged at each checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = folder / f"{name}.finished.safetensors"
    if finished.exists():
        module.load_state_dict(load_file(finished))
        module.eval()
        return
    training = _Training(module, recipe)
    checkpoint = folder / f"{name}.checkpoint.pt"
    first_step = training.load(checkpoint) if checkpoint.exists() else 0
    if first_step:
        _log.info("%s: going on from step %d", name, first_step)
    parallel.copy_from_first(module)

    losses: list[float] = []
    start = time.monotonic()
    for done in range(first_step + 1, recipe.steps + 1):
        rng = _seed(name, done - 1)
        losses.append(training.step(lambda: loss_of_batch(module, rng)))  # noqa: B023
        last = done == recipe.steps
        if parallel.rank() > 0 or not (last or done % _LOG_EVERY == 0):
            continue
        validation = ""
        if last or done % _CHECKPOINT_EVERY == 0:
            if validate:
                validation = f"{validate(training.average.module):.5f}"
            training.save(checkpoint, done)
        loss = float(np.mean(losses))
        _write_row(folder / f"{name}.csv", done, loss, validation)
        pace = (time.monotonic() - start) / (done - first_step)
        text = f" validation {validation}" if validation else ""
        _log.info("%s %d/%d loss %.5f%s (%.2f s a step)", name, done, recipe.steps,
                  loss, text, pace)  # fmt: skip
        losses = []
    module.load_state_dict(training.average.module.state_dict())
    module.eval()
    if parallel.rank() == 0:
        partial = finished.with_suffix(".partial")
        save_file(module.state_dict(), partial)
        os.replace(partial, finished)


class _Training:
    """A module in training and all that must be kept to go on with it."""

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        self.module = module
        self.average = AveragedModel(module, multi_avg_fn=_moving_average(recipe.ema_decay))
        self.optimizer = torch.optim.AdamW(
            module.parameters(),
            recipe.learning_rate,
            betas=(0.9, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, recipe.rate)

    def step(self, loss_of_batch: Callable[[], Tensor]) -> float:
        """One step of the optimizer; returns the loss."""
        self.module.train()
        loss = loss_of_batch()
        self.optimizer.zero_grad()
        loss.backward()
        mean = parallel.average_gradients(self.module, loss)
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.average.update_parameters(self.module)
        return mean.item()

    def save(self, path: Path, step: int) -> None:
        """Write everything as it is after `step` steps."""
        states = {key: part.state_dict() for key, part in self._parts().items()}
        partial = path.with_suffix(".partial")
        torch.save({"step": step, **states}, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> int:
        """Go back to what was saved; returns after how many steps that was."""
        checkpoint = torch.load(path, weights_only=True)
        for key, part in self._parts().items():
            part.load_state_dict(checkpoint[key])
        return int(checkpoint["step"])

    def _parts(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("module", "average", "optimizer", "schedule")}


def _seed(name: str, step: int) -> np.random.Generator:
    """Chance for a step, its own in each process; torch's is seeded too."""
    torch.manual_seed(step * parallel.processes() + parallel.rank())
    return np.random.default_rng([step, sum(name.encode()), parallel.rank()])


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average that forgets faster at first, so that it does not keep the beginning."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        count = int(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + count) / (10 + count)))

    return update


def _write_row(path: Path, step: int, loss: float, validation: str) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "validation_loss"])
        writer.writerow([step, f"{loss:.5f}", validation])
