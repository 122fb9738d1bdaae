"""The training loop that every network shares: limited by time or steps, resumable, averaged."""

import csv
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_log = logging.getLogger(__name__)
_SAVE_EVERY_S = 20.0
_WARMUP_SHARE = 0.05  # of the training, at most
_VALIDATION_SHARE = 0.05  # of the time, at most


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train: AdamW, warm-up, cosine decay to a fiftieth, averaged weights.

    Training ends after `seconds`, not counting the first step of a process, which may compile, or
    after `steps`, whichever comes first. batch: samples of a step.
    """

    seconds: float = math.inf
    batch: int = 96
    learning_rate: float = 1e-3
    beta2: float = 0.99
    ema_decay: float = 0.998
    warmup_steps: int = 100
    steps: float = math.inf

    def rate(self, num_steps: int, share: float) -> float:
        """Learning rate after `num_steps` and a `share` of the training."""
        warmup = min(1.0, max((num_steps + 1) / self.warmup_steps, share / _WARMUP_SHARE))
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
        return self.learning_rate * warmup * decay


def fit(
    name: str,
    module: nn.Module,
    loss: Callable[[torch.Generator, float], Tensor],
    recipe: Recipe,
    folder: Path,
    validate: Callable[[], float] | None = None,
    snapshot: Callable[[], None] | None = None,
) -> None:
    """Train the parameters of `module` that require gradients; leave it with the averaged weights.

    Chance is seeded by the step, and everything is kept in `NAME.checkpoint`, so that a run that
    was killed goes on from there as if nothing had happened; a finished one takes no step. Losses
    go to `NAME.csv`.

    Args:
        loss: (generator on the module's device, share of the training done) -> scalar loss.
        validate: a measure on held-out data; called while the averaged weights are in place.
        snapshot: called then too, keeps them for others to use.
    """
    training = _Training(module, recipe)
    checkpoint = folder / f"{name}.checkpoint"
    if checkpoint.exists():
        training.load(checkpoint)
        _log.info("%s: goes on after %d steps", name, training.num_steps)
    generator = torch.Generator(training.parameters[0].device)
    losses: list[Tensor] = []
    saved, next_validation = time.monotonic(), 0.0
    while training.share < 1:
        generator.manual_seed(crc32(name.encode()) + training.num_steps)
        losses.append(training.step(loss(generator, training.share)))
        last = training.share >= 1
        if not last and time.monotonic() - saved < _SAVE_EVERY_S:
            continue
        validation = ""
        with training.averaged():
            if validate and (last or time.monotonic() > next_validation):
                start = time.monotonic()
                validation = f"{validate():.5f}"
                next_validation = start + (time.monotonic() - start) / _VALIDATION_SHARE
            if snapshot:
                snapshot()
        mean = torch.stack(losses).mean().item()
        _report(name, training, mean, validation, folder)
        training.save(checkpoint)
        losses, saved = [], time.monotonic()
    training.use_average()


class _Training:
    """A module in training and all that must be kept to go on with it."""

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        self.module, self.recipe = module, recipe
        self.parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            recipe.learning_rate,
            betas=(0.9, recipe.beta2),
            weight_decay=0.01,
            fused=True,
        )
        self.num_steps = 0
        self._seconds = 0.0  # of earlier processes
        self._start: float | None = None
        module.train()

    @property
    def seconds(self) -> float:
        """Time trained so far."""
        return self._seconds + (time.monotonic() - self._start if self._start else 0.0)

    @property
    def share(self) -> float:
        """Share of the training done, 0 to 1."""
        recipe = self.recipe
        return min(1.0, max(self.seconds / recipe.seconds, self.num_steps / recipe.steps))

    def step(self, loss: Tensor) -> Tensor:
        """One step of the optimizer down `loss`; returns it detached."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.num_steps, self.share)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        # It forgets faster at first, so that it does not keep the beginning.
        decay = min(self.recipe.ema_decay, (1 + self.num_steps) / (10 + self.num_steps))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.num_steps += 1
        self._start = self._start or time.monotonic()
        return loss.detach()

    @torch.no_grad()
    def use_average(self) -> None:
        """Put the averaged weights into the module, for evaluation."""
        torch._foreach_copy_(self.parameters, self.average)
        self.module.eval()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The module has the averaged weights for a while."""
        kept = [p.detach().clone() for p in self.parameters]
        self.use_average()
        yield
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, kept)
        self.module.train()

    def save(self, path: Path) -> None:
        """Write everything as it is now."""
        partial = path.with_suffix(".partial")
        state = {
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "num_steps": self.num_steps,
            "seconds": self.seconds,
        }
        torch.save(state, partial)
        os.replace(partial, path)

    @torch.no_grad()
    def load(self, path: Path) -> None:
        """Go back to what was saved."""
        state = torch.load(path, map_location=self.parameters[0].device, weights_only=True)
        torch._foreach_copy_(self.parameters, state["parameters"])
        torch._foreach_copy_(self.average, state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_steps, self._seconds = state["num_steps"], state["seconds"]


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """bfloat16 where it is fast; on a CPU with plain attention, which is faster in it there."""
    fast = has_fast_bfloat16(device)
    plain = sdpa_kernel(SDPBackend.MATH) if fast and device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16, enabled=fast), plain:
        yield


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16; a CPU that imitates it takes five times as long."""
    if device.type != "cpu":
        return True
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def _report(name: str, training: _Training, loss: float, validation: str, folder: Path) -> None:
    path = folder / f"{name}.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "seconds", "loss", "validation"])
        writer.writerow([training.num_steps, round(training.seconds), f"{loss:.5f}", validation])
    text = f" validation {validation}" if validation else ""
    _log.info("%s %.0f %% step %d loss %.5f%s", name, 100 * training.share, training.num_steps,
              loss, text)  # fmt: skip
