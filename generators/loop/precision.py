"""A check of bf16 convolutions on a CPU: some libraries give wrong gradients for small grids.

oneDNN has processors and shapes (sides of 2 voxels) where the gradient of the weights is garbage.
It may be finite, and would then be clipped and used. Most of them are known, and computed in 32
bits (`synthbench.generators.networks.convolution.is_thin`). There may be others. So the
convolutions of the first step are compared with float32, each shape once, before any gradient is
used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from synthbench.errors import UsageError
from synthbench.generators.networks.convolution import is_thin

MOST_ERROR = 0.1
"""Largest error of a bf16 gradient, relative to its norm; rounding to 8 bits gives below 0.01."""


@dataclass(frozen=True)
class Shape:
    """A convolution: the shapes of its weight and its input, and how it moves over the grid.

    The layout of the input in memory decides which code computes it.
    """

    weight: tuple[int, ...]
    sample: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    channels_last: bool = False

    def __str__(self) -> str:
        sides = " x ".join(map(str, self.sample[2:]))
        return f"{self.sample[1]} to {self.weight[0]} channels at {sides} voxels"


@contextmanager
def convolutions(network: nn.Module) -> Iterator[set[Shape]]:
    """Yield a set that is filled with the network's convolutions while it computes."""
    seen: set[Shape] = set()

    def note(conv: nn.Conv3d, inputs: tuple[Tensor, ...], output: Any) -> None:
        if output.dtype == torch.float32 and is_thin(conv, inputs[0]):
            return  # computed in 32 bits, so there is nothing to check
        seen.add(
            Shape(
                tuple(conv.weight.shape), tuple(inputs[0].shape), conv.stride,
                conv.padding, conv.dilation, conv.groups,
                inputs[0].is_contiguous(memory_format=torch.channels_last_3d),
            )
        )  # fmt: skip

    hooks = [m.register_forward_hook(note) for m in network.modules() if isinstance(m, nn.Conv3d)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def check_bf16(shapes: Iterable[Shape]) -> None:
    """Compare the gradients of these convolutions in bf16 with float32, on the CPU.

    Raises
    ------
    UsageError
        One is wrong on this machine.
    """
    for shape in shapes:
        error = _error(shape)
        if not error <= MOST_ERROR:
            raise UsageError(
                f"precision=bf16: on this processor the gradient of a convolution from {shape} is "
                f"wrong in bf16 (error {error:.2g} of its norm). Train with precision=fp32, on a "
                "GPU, or on a larger grid."
            )


def _error(shape: Shape) -> float:
    """Return the larger relative error of the gradients of input and weight; NaN: not finite."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(shape.sample, generator=draws)
    weight = torch.randn(shape.weight, generator=draws)
    one, other = (_gradients(shape, x, weight, bf16) for bf16 in (False, True))
    errors = [float((b - a).norm() / a.norm()) for a, b in zip(one, other, strict=True)]
    return max(errors) if all(e == e for e in errors) else float("nan")


def _gradients(shape: Shape, x: Tensor, weight: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
    """Return the gradients of the input and the weight for a fixed gradient of the output."""
    if shape.channels_last:
        x = x.contiguous(memory_format=torch.channels_last_3d)
    leaves = x.clone().requires_grad_(), weight.clone().requires_grad_()
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = nn.functional.conv3d(
            *leaves, None, shape.stride, shape.padding, shape.dilation, shape.groups
        )
    above = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    first, second = torch.autograd.grad(y, leaves, above.to(y))
    return first.float(), second.float()
