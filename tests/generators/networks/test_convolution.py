"""The CPU convolutions have the results and gradients of PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from synthbench.generators.networks.convolution import convolve, upsample_and_convolve
from tests.generators.networks.examples import distance, volumes

# ---------------------------------------------------------------- its parts


@pytest.mark.parametrize(
    ("shape", "size", "padding", "bias"),
    [
        ((2, 3, 5, 6, 7), 3, 1, True),
        ((1, 4, 4, 4, 4), 3, 0, False),
        ((1, 1, 3, 9, 5), 3, 2, True),
        ((2, 6, 3, 4, 5), 1, 0, True),
    ],
)
def test_a_direct_convolution_is_pytorchs(shape, size, padding, bias):
    """PyTorch's own convolution in float64 is the independent implementation."""
    torch.manual_seed(0)
    conv = nn.Conv3d(shape[1], 5, size, padding=padding, bias=bias)
    x = volumes(*shape).requires_grad_()
    exact, y = copy.deepcopy(conv).double(), x.detach().double().requires_grad_()
    found, wanted = convolve(conv, x), exact(y)
    assert distance(found, wanted) < 1e-6
    pairs = zip(
        torch.autograd.grad(found.square().sum(), [x, *conv.parameters()]),
        torch.autograd.grad(wanted.square().sum(), [y, *exact.parameters()]),
        strict=True,
    )
    assert all(distance(a, b) < 2e-6 for a, b in pairs)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("layer", [convolve, upsample_and_convolve])
def test_on_thin_grids_16_bits_give_gradients_that_differ_by_rounding(layer, depth):
    """There oneDNN's own gradient of the weights is made of stale memory, on some processors.

    A correct gradient in bfloat16, which has 8 bits, is within a few 2^-9 of the exact one.
    """
    torch.manual_seed(0)
    conv = nn.Conv3d(32, 32, 3, padding=1)
    found = {}
    for bf16 in (False, True):
        x = volumes(2, 32, depth, 5, 6).contiguous(memory_format=torch.channels_last_3d)
        x.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            drawn = layer(conv, x)
        assert drawn.dtype == (torch.bfloat16 if bf16 else torch.float32)
        gradients = torch.autograd.grad(drawn.float().square().sum(), [x, *conv.parameters()])
        found[bf16] = [drawn.float(), *gradients]
    assert all(distance(a, b) < 0.02 for a, b in zip(found[True], found[False], strict=True))


def test_merged_taps_are_a_convolution_of_the_doubled_grid():
    """Interpolating, then convolving, in float64 is the independent implementation."""
    torch.manual_seed(0)
    conv = nn.Conv3d(3, 4, 3, padding=1)
    x = volumes(2, 3, 3, 4, 5).requires_grad_()
    exact, y = copy.deepcopy(conv).double(), x.detach().double().requires_grad_()
    found = upsample_and_convolve(conv, x)
    wanted = exact(functional.interpolate(y, scale_factor=2.0))
    assert found.shape == (2, 4, 6, 8, 10)
    assert distance(found, wanted) < 1e-6
    pairs = zip(
        torch.autograd.grad(found.square().sum(), [x, *conv.parameters()]),
        torch.autograd.grad(wanted.square().sum(), [y, *exact.parameters()]),
        strict=True,
    )
    assert all(distance(a, b) < 2e-6 for a, b in pairs)
