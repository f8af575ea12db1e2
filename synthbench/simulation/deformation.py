"""Smooth deformations: stationary velocity fields, their exponential and composition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

Shape = tuple[int, int, int]

EXTENT_MM = (181.0, 217.0, 181.0)
CORNER_MM = (-90.5, -126.5, -72.5)

# Velocities are smooth at 10 mm and above, so 5 mm is enough to integrate them on.
DEFORMATION_SHAPE: Shape = (36, 44, 36)
_SQUARINGS = 5


def box_affine(shape: Sequence[int]) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a grid of this shape that fills the classic MNI box.

    >>> box_affine((181, 217, 181))[:3, 3]
    array([ -90., -126.,  -72.])
    """
    spacing = np.array(EXTENT_MM) / np.array(shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(CORNER_MM) + spacing / 2
    return affine


def box_units(vectors_mm: Float32[Tensor, "3 d h w"]) -> Float32[Tensor, "3 d h w"]:
    """Return vectors of (x, y, z) millimetres in box units: (z, y, x), 2 across the box."""
    scale = torch.tensor([2 / extent for extent in EXTENT_MM])
    return (vectors_mm * scale[:, None, None, None]).flip(0)


def exponential(velocity: Float32[Tensor, "3 d h w"]) -> Float32[Tensor, "3 d h w"]:
    """Return the flow's displacement at time 1, by scaling and squaring (Arsigny et al. 2006)."""
    displacement = velocity / float(2**_SQUARINGS)
    for _ in range(_SQUARINGS):
        displacement = compose(displacement, displacement)
    return displacement


def compose(
    first: Float32[Tensor, "3 d h w"], then: Float32[Tensor, "3 d h w"]
) -> Float32[Tensor, "3 d h w"]:
    """Return the displacement of a move by `first` and, from there, by `then`."""
    points = grid_points(DEFORMATION_SHAPE) + first.movedim(0, -1)
    return first + sample(then, points, outside="border")


def gradient_field(
    divergence: Float64[np.ndarray, "d h w"], spacing: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "3 d h w"]:
    """Return the curl-free field with this divergence (mean 0), periodic over the box.

    It is v = grad phi, where Poisson's equation laplace(phi) = divergence is solved by FFT.
    """
    frequencies = [
        2 * np.pi * np.fft.fftfreq(n, mm) for n, mm in zip(divergence.shape, spacing, strict=True)
    ]
    k = np.stack(np.meshgrid(*frequencies, indexing="ij"))
    squared = (k**2).sum(axis=0)
    squared[0, 0, 0] = 1.0
    spectrum = np.fft.fftn(divergence) * (-1j * k / squared)
    return np.asarray(np.fft.ifftn(spectrum, axes=(1, 2, 3)).real, dtype=np.float64)


# --- fields and grids ---------------------------------------------------------------------------


def spline_field(
    rng: np.random.Generator, spacing_mm: float, shape: Sequence[int]
) -> Float32[Tensor, "d h w"]:
    """Return a cubic B-spline with standard normal coefficients, scaled to unit variance.

    The lattice covers the box, so a field does not depend on the grid that it is sampled on.
    """
    counts = [math.ceil(extent / spacing_mm) + 3 for extent in EXTENT_MM]
    field = rng.standard_normal(counts)
    for axis, (side, extent) in enumerate(zip(shape, EXTENT_MM, strict=True)):
        basis = spline_basis(side, extent / spacing_mm, counts[axis])
        # Each pass takes the first axis and appends the new one; einsum, unlike BLAS, adds in
        # the same order for any number of threads.
        field = np.einsum("sk,kab->abs", basis, field)
    # A cubic B-spline's square integrates to 151/315.
    return torch.from_numpy((field / (151 / 315) ** 1.5).astype(np.float32))


def spline_basis(side: int, cells: float, count: int) -> Float64[np.ndarray, "side count"]:
    """Return the value of each of `count` cubic B-splines at each of `side` voxel centres."""
    position = (np.arange(side) + 0.5) * cells / side
    distance = np.abs(position[:, None] - (np.arange(count)[None] - 1))
    inner = 2 / 3 - distance**2 * (1 - distance / 2)
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer)


@lru_cache(maxsize=4)
def grid_points(shape: Shape) -> Float32[Tensor, "d h w 3"]:
    """Return the voxel centres of the box's grid with this shape, in box units."""
    axes = [(2 * torch.arange(n, dtype=torch.float32) + 1) / n - 1 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def sample(
    maps: Float32[Tensor, "c d h w"],
    points: Float32[Tensor, "D H W 3"],
    outside: Literal["zeros", "border"] = "zeros",
) -> Float32[Tensor, "c D H W"]:
    """Return the trilinear values of maps that fill the box, at points in box units."""
    # Without corner alignment, -1 and 1 are the box's faces, for maps of any shape.
    return torch.nn.functional.grid_sample(
        maps[None], points[None], padding_mode=outside, align_corners=False
    )[0]
