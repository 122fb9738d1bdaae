"""Rounding each result is what float16 modules do, without their slowness on a CPU."""

import torch
from torch import nn

from keyvid.export.graph import half_precision
from keyvid.export.rounding import rounded, rounding_error


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(8, 16, 3), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 4, 1)]
    return nn.Sequential(*layers).eval()


def call(net, x):
    return net(x)


@torch.no_grad()
def test_it_errs_as_half_precision_does():
    net, x = network().half().float(), torch.randn(2, 8, 12, 12)
    error = rounding_error(net, call, [(x,)])
    want = net(x)
    got = half_precision(net)(x.half()).float()
    assert 0.5 < error / float((got - want).norm() / want.norm()) < 2
    assert 1e-4 < error < 1e-2  # float16 keeps 11 bits


@torch.no_grad()
def test_every_result_is_a_float16():
    out = rounded(call)(nn.Linear(4, 3), torch.randn(5, 4))
    assert out.dtype == torch.float32
    assert torch.equal(out, out.half().float())


def test_integers_are_left_alone():
    assert rounded(lambda x: x + 70000)(torch.tensor([1])).tolist() == [70001]


def test_the_largest_error_counts():
    net = network()
    small, large = torch.zeros(1, 8, 4, 4), torch.randn(1, 8, 4, 4)
    errors = [rounding_error(net, call, [(x,)]) for x in (small, large)]
    assert rounding_error(net, call, [(small,), (large,)]) == max(errors)
