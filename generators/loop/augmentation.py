"""Random left-right mirrors and light affines of training volumes.

Each volume has its own random generator. So its change does not depend on the batch, the number of
processes, or the step at which a run was resumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Float64
from pydantic import Field
from torch import Tensor, nn

from synthbench.generators.generator import Settings

LEFT_RIGHT = 0  # of a volume's axes: spaces are RAS+


class AugmentationSettings(Settings):
    """Settings of the augmentation; by default both parts are off."""

    flip: bool = Field(
        default=False, description="mirror left and right, with a probability of one half"
    )
    affine: float = Field(
        default=0.0,
        ge=0,
        le=45,
        description="the limit A: turn by up to A degrees about a random axis, scale by up to A "
        "percent, shift by up to A/2 percent of each side",
    )


def augment(
    volumes: Float32[Tensor, "b 1 d h w"],
    settings: AugmentationSettings,
    draws: Sequence[torch.Generator],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Float32[Tensor, "b 1 d h w"]:
    """Return volumes, mirrored and moved at random.

    Parameters
    ----------
    volumes
        Intensities in [0, 1], background exactly 0, on a RAS+ grid.
    settings
        The parts that are on. A part that is off draws no random numbers; with both off, the
        volumes are returned unchanged.
    draws
        One CPU generator per volume.
    spacing
        Voxel sizes along d, h and w. Only their ratios matter: they keep turns rigid.

    Returns
    -------
    Float32[Tensor, "b 1 d h w"]
        In [0, 1]; 0 where all voxels to interpolate from are background or outside the grid.

    Raises
    ------
    ValueError
        The number of generators is not the number of volumes.
    """
    if not settings.flip and settings.affine == 0:
        return volumes
    # One volume at a time: a matrix product may round differently in a batch of another size.
    changed = [
        _augmented(volume[None], settings, generator, spacing)
        for volume, generator in zip(volumes, draws, strict=True)
    ]
    return torch.cat(changed)


def _augmented(
    volume: Float32[Tensor, "1 1 d h w"],
    settings: AugmentationSettings,
    draws: torch.Generator,
    spacing: Sequence[float],
) -> Float32[Tensor, "1 1 d h w"]:
    if settings.flip and torch.rand((), generator=draws) < 0.5:
        volume = mirror(volume)
    if settings.affine > 0:
        sides = [n * size for n, size in zip(volume.shape[2:], spacing, strict=True)]
        volume = resample(volume, random_affine(settings.affine, sides, draws), spacing)
    return volume


def mirror(volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b 1 d h w"]:
    """Return the volumes with left and right swapped about the middle of the grid."""
    return volumes.flip(2 + LEFT_RIGHT)


def random_affine(
    limit: float, sides: Sequence[float], draws: torch.Generator
) -> Float64[Tensor, "3 4"]:
    """Return a random turn, isotropic scaling and shift, each uniform between its bounds.

    Parameters
    ----------
    limit
        The limit A. The turn is at most A degrees, about an axis of uniform direction; the
        logarithm of the scale is at most A/100; the shift along a side at most A/200 of that side.
    sides
        Lengths of the field of view, in the unit of the result.
    draws
        A CPU generator.

    Returns
    -------
    Float64[Tensor, "3 4"]
        x -> M[:, :3] x + M[:, 3], for x measured from the middle of the field of view.
    """
    direction = torch.randn(3, generator=draws, dtype=torch.float64)
    turn, scale, *shift = (2 * torch.rand(5, generator=draws, dtype=torch.float64) - 1).tolist()
    angle = math.radians(limit * turn)
    linear = math.exp(limit / 100 * scale) * rotation(angle * direction / direction.norm())
    moved = [limit / 200 * part * side for part, side in zip(shift, sides, strict=True)]
    return torch.cat([linear, torch.tensor(moved, dtype=torch.float64)[:, None]], dim=1)


def rotation(vector: Float64[Tensor, " 3"]) -> Float64[Tensor, "3 3"]:
    """Return the rotation about `vector` by its length in radians (Rodrigues' formula)."""
    x, y, z = vector.tolist()
    skew = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    turned: Tensor = torch.linalg.matrix_exp(skew)
    return turned


def resample(
    volumes: Float32[Tensor, "b 1 d h w"],
    affine: Float64[Tensor, "3 4"],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Float32[Tensor, "b 1 d h w"]:
    """Return volumes, read at the places that an affine maps their voxels to.

    Interpolation is linear; outside the grid there are zeros.

    Parameters
    ----------
    volumes
        Intensities in [0, 1].
    affine
        In the unit of `spacing`, measured from the middle of the field of view.
    spacing
        Voxel sizes along d, h and w.
    """
    # affine_grid counts from -1 to 1 across the field of view, and names its axes w, h, d.
    sides = torch.tensor(volumes.shape[2:]) * torch.tensor(list(spacing), dtype=torch.float64)
    half = sides / 2
    linear = affine[:, :3] * half / half[:, None]
    shift = affine[:, 3] / half
    theta = torch.cat([linear.flip(0, 1), shift.flip(0)[:, None]], dim=1)
    theta = theta.to(volumes).expand(len(volumes), 3, 4)
    grid = nn.functional.affine_grid(theta, list(volumes.shape), align_corners=False)
    moved = nn.functional.grid_sample(
        volumes, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    # The weights of an interpolation may add up to a little more than one, by rounding.
    return moved.clamp(0, 1)
