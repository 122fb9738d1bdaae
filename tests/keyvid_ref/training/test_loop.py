"""The training loop: a run that was killed ends with the weights of one that was not."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from keyvid_ref.training.loop import Recipe, fit, has_fast_bfloat16

RECIPE = Recipe(steps=400, learning_rate=5e-2, beta2=0.999, ema_decay=0.9)
EVERY_STEP = "keyvid_ref.training.loop._SAVE_EVERY_S"


class Line:
    """A line to fit, and its loss, which raises after some calls."""

    def __init__(self, calls: int = 10_000) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(1, 1)
        self.calls, self.shares = calls, []  # type: int, list[float]

    def loss(self, generator: torch.Generator, share: float) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise KeyboardInterrupt
        self.shares.append(share)
        x = torch.randn(16, 1, generator=generator)
        return (self.module(x) - (3 * x - 1)).square().mean()


def test_killed_run_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Line()
    fit("line", whole.module, whole.loss, RECIPE, tmp_path)
    assert abs(whole.module.weight.item() - 3) < 1e-2
    parts = tmp_path / "parts"
    parts.mkdir()
    killed = Line(calls=300)
    with monkeypatch.context() as patch:
        patch.setattr(EVERY_STEP, 0.0)
        with pytest.raises(KeyboardInterrupt):
            fit("line", killed.module, killed.loss, RECIPE, parts)
    resumed = Line(calls=100)
    fit("line", resumed.module, resumed.loss, RECIPE, parts)
    torch.testing.assert_close(resumed.module.weight, whole.module.weight, rtol=0, atol=0)
    finished = Line(calls=0)
    fit("line", finished.module, finished.loss, RECIPE, parts)
    torch.testing.assert_close(finished.module.weight, whole.module.weight, rtol=0, atol=0)


def test_time_ends_training_and_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, steps=float("inf"), seconds=0.5)
    monkeypatch.setattr(EVERY_STEP, 0.0)
    line = Line(calls=20)
    with pytest.raises(KeyboardInterrupt):
        fit("line", line.module, line.loss, replace(recipe, seconds=1e6), tmp_path)
    state = torch.load(tmp_path / "line.checkpoint", weights_only=True)
    assert state["num_steps"] == 20
    torch.save(state | {"seconds": 0.4}, tmp_path / "line.checkpoint")
    start, line = time.monotonic(), Line()
    fit("line", line.module, line.loss, recipe, tmp_path)
    assert time.monotonic() - start < 0.5  # 0.1 s are left
    assert line.shares[0] == pytest.approx(0.8)
    assert line.shares == sorted(line.shares)


def test_rate_rises_and_falls() -> None:
    recipe = Recipe(learning_rate=2.0, warmup_steps=10)
    assert recipe.rate(4, 0.0) == pytest.approx(1.0)
    assert recipe.rate(50, 0.0) == pytest.approx(2.0)
    assert recipe.rate(50, 0.5) == pytest.approx(2.0 * (0.02 + 0.98 / 2))
    assert recipe.rate(50, 1.0) == pytest.approx(0.04)
    few = Recipe(learning_rate=2.0, warmup_steps=1000)
    assert few.rate(0, 0.025) == pytest.approx(1.0, rel=0.01)  # of few steps, 5 % at most
    assert few.rate(4, 0.5) == pytest.approx(2.0 * (0.02 + 0.98 / 2))


def test_what_is_frozen_stays_and_the_average_is_kept(tmp_path: Path) -> None:
    line = Line()
    line.module.bias.requires_grad_(False)
    bias, seen = line.module.bias.clone(), []
    recipe = replace(RECIPE, steps=5)
    fit("line", line.module, line.loss, recipe, tmp_path, lambda: 7.0,
        lambda: seen.append(line.module.weight.item()))  # fmt: skip
    assert torch.equal(line.module.bias, bias)
    state = torch.load(tmp_path / "line.checkpoint", weights_only=True)
    assert line.module.weight.item() == state["average"][0].item() == seen[-1]
    assert state["parameters"][0].item() != seen[-1]
    assert (tmp_path / "line.csv").read_text().splitlines()[1].endswith(",7.00000")


def test_a_cpu_that_imitates_bfloat16_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, fast in (({"amx_bf16": True}, True), ({"avx512_bf16": False}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert has_fast_bfloat16(torch.device("cpu")) is fast
    assert has_fast_bfloat16(torch.device("cuda"))
