"""Winograd convolutions against PyTorch's direct ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from synthbench.metrics.extractors import winograd
from synthbench.metrics.extractors.resnet import Convolution

SHAPES = [
    ((11, 16, 11), 4),  # stage 4 of MedicalNet's networks on the paper's grid
    ((11, 16, 11), 2),  # stage 3
    ((7, 12, 9), 1),
    ((5, 13, 2), 3),
    ((1, 1, 9), 4),
]


def convolved(x, weight, dilation):
    shape = x.shape[1:]
    taps = winograd.transformed(weight, winograd.schemes(shape, dilation))
    return winograd.convolve(x, taps, dilation)


@pytest.mark.parametrize(("shape", "dilation"), SHAPES)
def test_integers_are_convolved_exactly(shape, dilation):
    """Sums of small integers, and halves of them, are exact in float32 in any order."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(-4, 5, (3, *shape), generator=rng).float()
    weight = torch.randint(-4, 5, (5, 3, 3, 3, 3), generator=rng).float()
    expected = functional.conv3d(x[None], weight, padding=dilation, dilation=dilation)[0]
    assert torch.equal(convolved(x, weight, dilation), expected)


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_rounding_is_no_worse_than_that_of_the_direct_sum(dilation):
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(64, 11, 16, 11, generator=rng).relu()
    weight = torch.randn(64, 64, 3, 3, 3, generator=rng) / math.sqrt(64 * 27)
    options = {"padding": dilation, "dilation": dilation}
    exact = functional.conv3d(x.double()[None], weight.double(), **options)[0]
    direct = functional.conv3d(x[None], weight, **options)[0]
    bound = 2 * float((direct - exact).norm()) + 1e-7 * float(exact.norm())
    assert float((convolved(x, weight, dilation) - exact).norm()) <= bound


def test_multiplications_of_the_last_stage_are_a_quarter():
    """11 voxels in fours are 4 parts of up to 3, of 5 products each: 20 for 33. 16 are 4 parts of
    4, so of two tiles of 4 products: 32 for 48. Together 20 * 32 * 20 / (33 * 48 * 33) = 0.245.
    """
    assert winograd.saves((11, 16, 11), 4)
    axes = [winograd._Axis(size, 4).multiplications for size in (11, 16, 11)]
    assert axes == [20, 32, 20]


def test_a_grid_too_small_to_save_anything_is_convolved_directly():
    """Parts of one voxel: 5 * 4 products along an axis of 3, where the direct sum has 9."""
    assert not winograd.saves((3, 3, 3), 4)


@pytest.mark.parametrize("dilation", [1, 4])
def test_the_layer_adds_its_bias_and_follows_the_grid(dilation):
    """One layer, two grids that need other transforms of its taps, then the first again."""
    torch.manual_seed(0)
    layer = Convolution(128, 128, 3, dilation=dilation).requires_grad_(False)
    layer.bias = torch.nn.Parameter(torch.arange(128.0), requires_grad=False)
    for shape in ((11, 16, 11), (16, 16, 24), (11, 16, 11)):
        x = torch.randn(1, 128, *shape)
        expected = functional.conv3d(
            x, layer.weight, layer.bias, padding=dilation, dilation=dilation
        )
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
