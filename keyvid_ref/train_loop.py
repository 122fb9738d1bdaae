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
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_log = logging.getLogger(__name__)
_WARMUP_STEPS = 100
_LOG_EVERY = 50
_CHECKPOINT_EVERY = 250


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: AdamW with warm-up and cosine decay to a twentieth."""

    steps: int
    learning_rate: float = 1e-3
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
    from its last checkpoint as if nothing had happened. Losses go to `NAME.csv`.

    Args:
        loss_of_batch: (module, generator) -> scalar loss.
        validate: the averaged module's loss on held-out data, logged at each checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint_path = folder / f"{name}.checkpoint.pt"
    average = AveragedModel(module, multi_avg_fn=_moving_average(recipe.ema_decay))
    optimizer = torch.optim.AdamW(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)
    parts: dict[str, Any] = {
        "module": module,
        "average": average,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    first_step = 0
    if checkpoint_path.exists():
        checkpoint = torch.load(checkpoint_path, weights_only=True)
        first_step = checkpoint["step"]
        for key, part in parts.items():
            part.load_state_dict(checkpoint[key])
        _log.info("%s: going on from step %d", name, first_step)

    losses: list[float] = []
    start = time.monotonic()
    for step in range(first_step, recipe.steps):
        module.train()
        rng = np.random.default_rng([step, sum(name.encode())])
        torch.manual_seed(step)
        loss = loss_of_batch(module, rng)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(module)
        losses.append(loss.item())
        done = step + 1
        if done % _LOG_EVERY == 0 or done == recipe.steps:
            validation = ""
            if done % _CHECKPOINT_EVERY == 0 or done == recipe.steps:
                if validate:
                    validation = f"{validate(average.module):.5f}"
                _save(checkpoint_path, done, parts)
            _write_row(folder / f"{name}.csv", done, float(np.mean(losses)), validation)
            pace = (time.monotonic() - start) / (done - first_step)
            text = f" validation {validation}" if validation else ""
            _log.info("%s %d/%d loss %.5f%s (%.2f s a step)", name, done, recipe.steps,
                      np.mean(losses), text, pace)  # fmt: skip
            losses = []
    module.load_state_dict(average.module.state_dict())
    module.eval()


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average that forgets faster at first, so that it does not keep the beginning."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        count = int(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + count) / (10 + count)))

    return update


def _save(path: Path, step: int, parts: dict[str, Any]) -> None:
    states = {key: part.state_dict() for key, part in parts.items()}
    partial = path.with_suffix(".partial")
    torch.save({"step": step, **states}, partial)
    os.replace(partial, path)


def _write_row(path: Path, step: int, loss: float, validation: str) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "validation_loss"])
        writer.writerow([step, f"{loss:.5f}", validation])
