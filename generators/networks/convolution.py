"""Stride-1 convolutions of volumes on a CPU, forward and backward, near the processor's top speed.

For small volumes PyTorch uses a slow (unblocked) convolution, and its gradients reach a third to a
half of what the processor can do. Here everything but the gradient of the weights is oneDNN's
forward convolution: the gradient of the input is a convolution with the taps reversed. The gradient
of the weights is a few matrix products. Results equal PyTorch's own convolution, to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

# Rows: the two fine voxels that a coarse voxel becomes along one axis. Columns: the two coarse
# voxels that such a fine voxel reads. Entries: 1 for each of the three taps that reads that coarse
# voxel; taps that read the same one are added up.
_MERGED_TAPS = (((1, 0, 0), (0, 1, 1)), ((1, 1, 0), (0, 0, 1)))


def is_direct(x: Tensor) -> bool:
    """Return True where these convolutions take that tensor: float32, on a CPU, with oneDNN."""
    return (
        # A subclass has no data: a dry run counts costs with such tensors.
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch._C._has_mkldnn
    )


def is_thin(conv: nn.Conv3d, x: Tensor) -> bool:
    """Return True where 16 bits may give a wrong gradient of the weights, on a CPU.

    Where the kernel is longer than the first axis of x, oneDNN reads memory that was never written
    (torch 2.13; processors with AVX512_BF16 and no AMX). Such grids are small: 32 bits cost little.
    """
    return x.device.type == "cpu" and x.shape[2] < conv.kernel_size[0]


def convolve(conv: nn.Conv3d, x: Float[Tensor, "b i d h w"]) -> Float[Tensor, "b o d h w"]:
    """Return the convolution of x: stride 1, no dilation, no groups, the same size on all axes."""
    if is_thin(conv, x) and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            exact: Tensor = conv(x.float())
        return exact.to(torch.get_autocast_dtype("cpu"))
    if not is_direct(x):
        return conv(x)  # type: ignore[no-any-return]
    assert isinstance(conv.padding[0], int)
    apply: Callable[..., Tensor] = _Convolution.apply
    return apply(x, conv.weight, conv.bias, conv.padding[0])


def upsample_and_convolve(
    conv: nn.Conv3d, x: Float[Tensor, "b i d h w"]
) -> Float[Tensor, "b o d2 h2 w2"]:
    """Return x on a grid of twice the size (voxels repeated), after a 3x3x3 convolution.

    The padding is 1. Along an axis, three taps on the fine grid read only two coarse voxels. So
    each of the eight fine voxels of a coarse one is a 2x2x2 convolution of the coarse grid, with
    taps added up: 8 products in place of 27.
    """
    if not is_direct(x):
        return convolve(conv, functional.interpolate(x, scale_factor=2.0))
    merge = x.new_tensor(_MERGED_TAPS)
    taps = torch.einsum("xpa,yqb,zrc,oiabc->xyzoipqr", merge, merge, merge, conv.weight)
    padded = functional.pad(x, (1,) * 6)
    apply: Callable[..., Tensor] = _Upsampling.apply
    return apply(padded, taps, conv.bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _convolved(x, weight, bias, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        for_x, for_weight, for_bias, _ = ctx.needs_input_grad
        size, padding = weight.shape[-1], ctx.padding
        return (
            _input_gradient(gradient, weight, padding) if for_x else None,
            _weight_gradient(x, gradient, size, padding) if for_weight else None,
            gradient.sum((0, 2, 3, 4)) if for_bias else None,
            None,
        )


class _Upsampling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, padded: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(padded, taps)
        b, _, *sides = padded.shape
        shape = (b, taps.shape[3], *(2 * (side - 2) for side in sides))
        doubled = padded.new_empty(shape)
        for place, fine, coarse in _places(sides):
            doubled[fine] = _convolved(padded[coarse], taps[place], bias, 0)
        return doubled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        padded, taps = ctx.saved_tensors
        for_x, for_taps, for_bias = ctx.needs_input_grad
        x_gradient = torch.zeros_like(padded) if for_x else None
        taps_gradient = torch.empty_like(taps) if for_taps else None
        for place, fine, coarse in _places(padded.shape[2:]):
            part = gradient[fine].contiguous()
            if x_gradient is not None:
                x_gradient[coarse] += _input_gradient(part, taps[place], 0)
            if taps_gradient is not None:
                taps_gradient[place] = _weight_gradient(padded[coarse], part, 2, 0)
        return x_gradient, taps_gradient, gradient.sum((0, 2, 3, 4)) if for_bias else None


_Slices = tuple[slice, ...]


def _places(
    padded: torch.Size | list[int],
) -> Iterator[tuple[tuple[int, ...], _Slices, _Slices]]:
    """Yield, for each of the eight fine voxels of a coarse one, its place and two slices.

    The first slice takes all fine voxels at that place, the second what they read of the padded
    coarse grid.
    """
    every = (slice(None), slice(None))
    for place in product((0, 1), repeat=3):
        fine = tuple(slice(at, None, 2) for at in place)
        coarse = tuple(slice(at, at + side - 1) for at, side in zip(place, padded, strict=True))
        yield place, every + fine, every + coarse


def _convolved(
    x: Float32[Tensor, "b i d h w"],
    weight: Float32[Tensor, "o i k k k"],
    bias: Float32[Tensor, " o"] | None,
    padding: int,
) -> Float32[Tensor, "b o d2 h2 w2"]:
    x = x.contiguous()
    return torch.mkldnn_convolution(x, weight, bias, (padding,) * 3, (1,) * 3, (1,) * 3, 1)


def _input_gradient(
    gradient: Float32[Tensor, "b o d2 h2 w2"], weight: Float32[Tensor, "o i k k k"], padding: int
) -> Float32[Tensor, "b i d h w"]:
    reversed_taps = weight.flip(2, 3, 4).transpose(0, 1).contiguous()
    return _convolved(gradient, reversed_taps, None, weight.shape[-1] - 1 - padding)


def _weight_gradient(
    x: Float32[Tensor, "b i d h w"],
    gradient: Float32[Tensor, "b o d2 h2 w2"],
    size: int,
    padding: int,
) -> Float32[Tensor, "o i k k k"]:
    """Return the gradient of the weights: per tap, a sum over voxels of input times gradient.

    The input that a tap reads and the gradient of the output are matrices with one column per
    voxel. Taps along d and h are shifts by whole rows of voxels. Taps along w are shifted copies of
    the gradient, stacked into one larger product.
    """
    inputs, outputs, margin = x.shape[1], gradient.shape[1], size - 1 - padding
    total = x.new_zeros(size, size, inputs, size * outputs)
    for volume, wrote in zip(x, gradient, strict=True):
        d, h, _ = wrote.shape[1:]
        width = volume.shape[-1]
        read = functional.pad(volume, (0, 0, *(padding,) * 4)).flatten(2).transpose(0, 1)
        spread = functional.pad(wrote, (margin, margin))
        shifted = [spread[..., size - 1 - tap :][..., :width] for tap in range(size)]
        stacked = torch.cat(shifted).flatten(2).permute(1, 2, 0)
        for i, j in product(range(size), repeat=2):
            rows = read[i : i + d, :, j * width : (j + h) * width]
            total[i, j] += (rows @ stacked).sum(0)
    return total.view(size, size, inputs, size, outputs).permute(4, 2, 0, 1, 3)
