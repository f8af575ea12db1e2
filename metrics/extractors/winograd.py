"""Convolutions of 3x3x3 taps with fewer multiplications: Winograd's minimal filtering in 3-D.

The method is that of Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks",
arXiv:1509.09308. Along an axis, the outputs y of a few neighbouring voxels x under three taps g are
y = A [(G g) * (B x)], where * is the product of elements. Two outputs need 4 multiplications in
place of 6 (F(2,3), their equation 6), and over three axes 64 in place of 216. The sum over channels
comes before A, so each product becomes a product of matrices.

A convolution dilated by d is d^3 separate convolutions on every d-th voxel. Where these have three
voxels or fewer along an axis, as in the last stage of MedicalNet's networks, most taps fall on the
zeros outside the volume: `BORDERED` leaves these out and needs 5 multiplications for three outputs.

All entries of A, B and G are 0, 1 or 1/2 in size, so very little precision is lost.

On one core, MedicalNet's ResNet-50 takes 1.3 times as long without it. The features of
`random-resnet10` and the MedicalNet networks with and without it differ by about 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.nn import functional

WORTHWHILE = 0.5
"""This method is faster up to this share of the multiplications of a direct convolution."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """A bilinear algorithm for three taps along one axis.

    Attributes
    ----------
    outputs
        Number of output voxels of a tile.
    border
        Number of voxels that a tile reads before and after its outputs.
    b, g, a
        The matrices for the tile's input, the taps, and the products.
    """

    outputs: int
    border: int
    b: Float64[np.ndarray, "points inputs"]
    g: Float64[np.ndarray, "points 3"]
    a: Float64[np.ndarray, "outputs points"]


TILED = Scheme(
    outputs=2,
    border=1,
    b=np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=np.float64),
    g=np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    a=np.array([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=np.float64),
)
"""F(2,3): tiles of two outputs that also read one voxel on either side."""

# The first tile of F(2,3) with a zero before it gives y0 and y1. It already contains the first
# product of y2 = g0 x1 + g1 x2.
BORDERED = Scheme(
    outputs=3,
    border=0,
    b=np.array([[0, 1, 0], [1, 1, 0], [-1, 1, 0], [1, 0, -1], [0, 0, 1]], dtype=np.float64),
    g=np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1], [0, 1, 0]]),
    a=np.array([[-1, 1, 1, 0, 0], [0, 1, -1, -1, 0], [1, 0, 0, 0, 1]], dtype=np.float64),
)
"""For three voxels between zeros."""


@dataclass(frozen=True)
class _Axis:
    """One axis of a volume, which a dilated convolution divides into parts of every d-th voxel."""

    size: int
    dilation: int

    @property
    def scheme(self) -> Scheme:
        return BORDERED if math.ceil(self.size / self.dilation) <= BORDERED.outputs else TILED

    @property
    def tiles(self) -> int:
        """The number of tiles in each part."""
        return math.ceil(self.size / (self.dilation * self.scheme.outputs))

    @property
    def covered(self) -> int:
        """The number of outputs of all tiles of a part."""
        return self.tiles * self.scheme.outputs

    @property
    def padding(self) -> tuple[int, int]:
        """The numbers of zeros before and after the axis that make every tile complete."""
        border = self.scheme.border
        return self.dilation * border, self.dilation * (self.covered + border) - self.size

    @property
    def padded(self) -> int:
        """The number of voxels of a part, including zeros."""
        return self.covered + 2 * self.scheme.border

    @property
    def multiplications(self) -> int:
        return len(self.scheme.b) * self.tiles * self.dilation


def saves(shape: tuple[int, ...], dilation: int) -> bool:
    """Return True where this method is faster on a volume of that shape (`WORTHWHILE`)."""
    needed = math.prod(_Axis(size, dilation).multiplications for size in shape)
    return needed <= WORTHWHILE * math.prod(3 * size for size in shape)


def schemes(shape: tuple[int, ...], dilation: int) -> tuple[Scheme, ...]:
    """Return the algorithm along each axis; equal ones share `transformed` taps."""
    return tuple(_Axis(size, dilation).scheme for size in shape)


def transformed(
    weight: Float32[Tensor, "o i 3 3 3"], along: tuple[Scheme, ...]
) -> Float32[Tensor, "p r q i o"]:
    """Return G times the taps along every axis; the points along d, w, h are the first axes."""
    d, h, w = (torch.from_numpy(scheme.g).to(weight) for scheme in along)
    channels = weight.shape[:2].numel()
    taps = weight.permute(2, 4, 3, 1, 0).reshape(3, -1)
    taps = (d @ taps).view(len(d), 3, -1)
    taps = (w @ taps).view(len(d) * len(w), 3, channels)
    return (h @ taps).view(len(d), len(w), len(h), weight.shape[1], weight.shape[0])


def convolve(
    x: Float32[Tensor, "i d h w"], taps: Float32[Tensor, "p r q i o"], dilation: int
) -> Float32[Tensor, "o d h w"]:
    """Return the convolution of a volume, zero outside, with `transformed` taps, in the same shape.

    It is fastest where the channels of `x` are last in memory, as they are in the result.
    """
    channels, *shape = x.shape
    along_d, along_h, along_w = axes = [_Axis(size, dilation) for size in shape]
    zeros = [0, 0, *(zero for axis in reversed(axes) for zero in axis.padding)]
    padded = functional.pad(x.permute(1, 2, 3, 0), zeros)
    # Every axis becomes two: the voxels of a part, and the parts. The channels are last.
    sides = [side for axis in axes for side in (axis.padded, dilation)]
    parts = padded.reshape(*sides, channels)
    sides = [side for axis in axes for side in (axis.covered, dilation)]
    outputs = x.new_zeros(*sides, taps.shape[-1])
    tiles = outputs.view(along_d.tiles, along_d.scheme.outputs, *outputs.shape[1:])
    # One point of the first axis at a time, so that the intermediate results fit into a cache.
    for point, row in enumerate(along_d.scheme.b):
        at_point = _combined(row, _inputs(parts, along_d, 0))
        # The voxels along h are dimension 2, those along w 4, and 5 behind the points of h.
        spread = _spread(_spread(at_point, along_h, 2), along_w, 5)
        rows = spread.flatten(0, 1).flatten(1, -2)
        products = torch.bmm(rows, taps[point].flatten(0, 1)).view(*spread.shape[:-1], -1)
        collected = _collected(_collected(products, along_w, 5), along_h, 2)
        for place, a in enumerate(along_d.scheme.a[:, point]):
            if a:
                tiles[:, place].add_(collected, alpha=a)
    depth, height, width = shape
    whole = outputs.view(*(axis.covered * dilation for axis in axes), -1)
    return whole[:depth, :height, :width].permute(3, 0, 1, 2)


def _inputs(x: Tensor, axis: _Axis, dim: int) -> list[Tensor]:
    """The first, second, ... input of every tile along an axis."""
    step, last = axis.scheme.outputs, (axis.tiles - 1) * axis.scheme.outputs
    strided = [slice(first, first + last + 1, step) for first in range(axis.scheme.b.shape[1])]
    return [x[(slice(None),) * dim + (every,)] for every in strided]


def _spread(x: Tensor, axis: _Axis, dim: int) -> Tensor:
    """B times the input of every tile along `dim`: the points are the first axis of the result."""
    inputs = _inputs(x, axis, dim)
    spread = x.new_empty(len(axis.scheme.b), *inputs[0].shape)
    for row, point in zip(axis.scheme.b, spread, strict=True):
        _combined(row, inputs, out=point)
    return spread


def _collected(products: Tensor, axis: _Axis, dim: int) -> Tensor:
    """A times the products, whose first axis is the points: the outputs of the tiles."""
    points = products.unbind()
    shape = list(points[0].shape)
    collected = products.new_empty(*shape[: dim + 1], axis.scheme.outputs, *shape[dim + 1 :])
    for place, row in enumerate(axis.scheme.a):
        _combined(row, points, out=collected.select(dim + 1, place))
    return collected.flatten(dim, dim + 1)


def _combined(
    row: Float64[np.ndarray, " k"], terms: Sequence[Tensor], out: Tensor | None = None
) -> Tensor:
    """The sum of the terms, each times 1, -1 or 0; at least one factor is 1."""
    signed = sorted(zip(row, terms, strict=True), key=lambda pair: -pair[0])
    (_, first), *others = [(sign, term) for sign, term in signed if sign]
    if out is None:
        out = torch.empty(first.shape, dtype=first.dtype)
    if not others:
        return out.copy_(first)
    (sign, second), *others = others
    torch.add(first, second, alpha=sign, out=out)
    for sign, term in others:
        out.add_(term, alpha=sign)
    return out
