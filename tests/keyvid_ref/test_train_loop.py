"""The training loop: a run that was killed ends with the weights of one that was not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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
    assert (tmp_path / "whole" / "line.csv").read_text().startswith("step,loss")
