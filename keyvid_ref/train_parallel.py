"""Several processes that train one network together: each takes its share of every batch.

One process alone needs none of this: then `rank` is 0, `processes` 1 and the rest does nothing.
"""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

_TIMEOUT = timedelta(hours=12)  # the others wait while the first validates


def start(processes: int, function: Callable[..., None], *arguments: Any) -> None:
    """Run `function(*arguments)` in each of `processes` processes, or here if it is one."""
    if processes == 1:
        function(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        spawn(_join, (processes, meeting, function, arguments), nprocs=processes)


def _join(
    rank: int, processes: int, meeting: str, function: Callable[..., None], arguments: tuple[Any]
) -> None:
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=processes, timeout=_TIMEOUT
    )
    function(*arguments)
    distributed.barrier()
    distributed.destroy_process_group()


def rank() -> int:
    """This process's number; the one with 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def processes() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def share(batch: int) -> int:
    """This process's part of a batch, at least one sample."""
    return max(1, batch // processes())


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Give every process the first one's parameters."""
    if processes() > 1:
        for parameter in module.parameters():
            distributed.broadcast(parameter.data, 0)


@torch.no_grad()
def average_gradients(module: nn.Module, loss: Tensor) -> Tensor:
    """Replace the gradients by their mean over the processes; returns the mean loss."""
    loss = loss.detach()
    if processes() == 1:
        return loss
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([value.flatten() for value in (loss, *gradients)])
    distributed.all_reduce(flat)
    loss, *means = (flat / processes()).split([value.numel() for value in (loss, *gradients)])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
    return loss.squeeze()
