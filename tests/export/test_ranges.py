"""Ranges are those of a network's own values, under the names of its modules."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from keyvid.export.graph import half_precision
from keyvid.export.ranges import LIMIT, Ranges, measure_ranges
from keyvid_ref.unet_attention import UnitLength


class Square(nn.Module):
    """Ten times the size of its input, by way of squares."""

    def forward(self, x):
        return ((10 * x) ** 2).sqrt()


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.norm = nn.LayerNorm(4)
        self.square = Square()
        nn.init.eye_(self.first.weight)

    def forward(self, x):
        mask = torch.full((4, 4), float("-inf"), dtype=x.dtype).triu(1)
        h = self.norm(self.first(x))
        h = F.scaled_dot_product_attention(h, h, h, attn_mask=mask)
        return self.square(h + 0 * x) + x


@pytest.fixture
def network():
    return Network().eval()


@pytest.fixture
def measure(network):
    def measure(*samples):
        ranges = Ranges()
        measure_ranges(ranges, network, lambda net, x: net(x), [(x,) for x in samples])
        return ranges

    return measure


def test_values_stand_under_the_module_that_computes_them(measure):
    small, large = torch.ones(1, 4, 4), torch.full((1, 4, 4), 3.0)
    ranges = measure(small, large)
    assert ranges.values["first"] == 3.0  # of the larger sample
    assert ranges.squares == {"norm": 4 * 3.0**2}
    assert ranges.values.keys() == {"", "first", "square"}


def test_masks_are_no_values(measure):
    assert all(value < float("inf") for value in measure(torch.ones(1, 4, 4)).values.values())


def test_attention_scores_are_seen(network, measure):
    with torch.no_grad():
        network.norm.weight *= 100  # scores grow by 1e4, what leaves the attention by 1e2
    scores = measure(torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))).values[""]
    assert scores > 5e3


def test_hooks_are_gone_afterwards(network, measure):
    measure(torch.ones(1, 4, 4))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_three_bits_below_the_largest_half():
    assert LIMIT == 65504 / 8


def test_what_comes_near_the_end_is_an_island():
    ranges = Ranges({"": 1.0, "a": 0.9 * LIMIT, "b": 1.1 * LIMIT}, {"n": 1e6})
    assert ranges.islands == ("b",)
    described = ranges.describe()
    assert (described.module, described.norms, described.norm_squares) == ("b", 1, 1e6)


def test_what_leaves_a_module_has_to_fit(network, measure):
    assert measure(torch.ones(1, 4, 4)).too_large == ()
    assert measure(torch.full((1, 4, 4), 7e4)).too_large == ("", "first")  # x is added at the end


def test_an_island_holds_what_half_precision_cannot(network):
    x = torch.eye(4)[None] * 40
    with torch.no_grad():
        network.norm.weight *= 50
        want = network(x)
        assert not half_precision(network)(x.half()).isfinite().all()
        half = half_precision(network, ["square"])
        got = half(x.half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), want, rtol=5e-3, atol=0.5)


def test_a_row_of_zeros_has_a_direction_in_half_precision():
    """The smallest divisor, 1e-12, is zero in float16: without an island this gives no number."""
    half = half_precision(nn.Sequential(UnitLength()))
    got = half(torch.tensor([[0.0, 0.0], [3e-4, 4e-4]]).half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), torch.tensor([[0, 0], [0.6, 0.8]]), atol=1e-3, rtol=0)


def test_a_length_is_a_sum_of_squares():
    ranges, x = Ranges(), torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    measure_ranges(ranges, nn.Sequential(UnitLength()), lambda net, x: net(x), [(x,)])
    assert ranges.squares == {"0": 25.0}
