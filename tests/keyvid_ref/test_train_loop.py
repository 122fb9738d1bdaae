"""The training loop: a run that was killed ends with the weights of one that was not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from keyvid_ref import train_parallel as parallel
from keyvid_ref.train_loop import Recipe, fit

RECIPE = Recipe(steps=400, learning_rate=5e-2, ema_decay=0.9)


def _line_loss(module: nn.Module, rng: np.random.Generator) -> Tensor:
    x = torch.from_numpy(rng.standard_normal((16, 1)).astype(np.float32))
    return (module(x) - (3 * x - 1)).square().mean()


def _line() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def test_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = _line()
    fit("line", whole, _line_loss, RECIPE, tmp_path / "whole")
    calls = 0

    def killed(module: nn.Module, rng: np.random.Generator) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 300:
            raise KeyboardInterrupt
        return _line_loss(module, rng)

    parts = _line()
    with pytest.raises(KeyboardInterrupt):
        fit("line", parts, killed, RECIPE, tmp_path / "parts")
    resumed = _line()
    fit("line", resumed, _line_loss, RECIPE, tmp_path / "parts")
    torch.testing.assert_close(resumed.weight, whole.weight, rtol=0, atol=0)
    assert abs(whole.weight.item() - 3) < 1e-2
    finished = _line()
    fit("line", finished, killed, RECIPE, tmp_path / "parts")  # takes no step, which would raise
    torch.testing.assert_close(finished.weight, whole.weight, rtol=0, atol=0)
    assert (tmp_path / "whole" / "line.csv").read_text().startswith("step,loss")


def _train_together(folder: Path) -> None:
    line = nn.Linear(1, 1, bias=False)
    nn.init.ones_(line.weight)
    loss = line(torch.full((1, 1), 2.0 + 2.0 * parallel.rank())).sum()  # 2 and 4
    loss.backward()
    mean = parallel.average_gradients(line, loss)
    means = torch.stack([mean, line.weight.grad.squeeze()])
    line = _line()
    fit("line", line, _line_loss, RECIPE, folder)
    torch.save({"means": means, **line.state_dict()}, folder / f"{parallel.rank()}.pt")


def test_processes_train_one_network_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the processes import this module
    parallel.start(2, _train_together, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first["means"].tolist() == [3, 3]
    assert abs(first["weight"].item() - 3) < 1e-2
    losses = (tmp_path / "line.csv").read_text().splitlines()
    assert len(losses) == 1 + RECIPE.steps // 50  # written by the first process only
