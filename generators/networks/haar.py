"""The orthonormal Haar transform of volumes, in three dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_AXES = (-3, -2, -1)
_SCALE = 0.5**0.5


def haar(volumes: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b 8*c d/2 h/2 w/2"]:
    """Return the eight bands of each channel, at half the resolution.

    Along each axis, neighbours a and b become (a + b) / sqrt(2) and (a - b) / sqrt(2). So the sum
    of squares stays the same, and white noise stays white noise. Of the eight bands of a channel,
    the first has sums along all axes (8^1/2 times the mean of 2 x 2 x 2 voxels); band i has
    differences along the axes whose bit is set in i (4: the first axis, 2: the second, 1: the
    third). The channels' first bands come first, then their second ones, and so on.

    Every side must be even.

    >>> bands = haar(torch.ones(1, 1, 2, 2, 2))
    >>> bands.shape, round(float(bands[0, 0, 0, 0, 0]), 4), float(bands[0, 1:].abs().max())
    (torch.Size([1, 8, 1, 1, 1]), 2.8284, 0.0)
    """
    bands = [volumes]
    for axis in _AXES:
        split = []
        for band in bands:
            first, second = torch.unflatten(band, axis, (-1, 2)).unbind(axis)
            split += [(first + second) * _SCALE, (first - second) * _SCALE]
        bands = split
    return torch.cat(bands, dim=1)


def inverse_haar(bands: Float[Tensor, "b 8*c d h w"]) -> Float[Tensor, "b c 2*d 2*h 2*w"]:
    """Return the volumes that `haar` made these bands of."""
    parts = list(bands.chunk(8, dim=1))
    for axis in reversed(_AXES):
        joined = []
        for sums, differences in zip(parts[::2], parts[1::2], strict=True):
            pair = torch.stack([sums + differences, sums - differences], dim=axis)
            joined.append(pair.flatten(axis - 1, axis) * _SCALE)
        parts = joined
    return parts[0]
