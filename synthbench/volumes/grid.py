"""Grids of volumes, and resampling from one grid to another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from synthbench.errors import UsageError
from synthbench.runtime.memory import beyond_limit


@dataclass(frozen=True)
class Space:
    """A grid in RAS+ millimetres.

    Attributes
    ----------
    shape
        Voxels along x (to the right), y (to the front), z (up).
    affine
        Sixteen numbers, row by row: voxel indices to millimetres.
    """

    shape: tuple[int, int, int]
    affine: tuple[float, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], affine: np.ndarray) -> Space:
        """Return the space of an array's shape and a 4 x 4 affine (rounded to 6 decimals)."""
        numbers = tuple(float(np.round(a, 6)) + 0.0 for a in np.asarray(affine).ravel())
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), numbers)

    @property
    def matrix(self) -> np.ndarray:
        """The affine as a 4 x 4 matrix."""
        return np.array(self.affine, dtype=np.float64).reshape(4, 4)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each axis."""
        size = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return (float(size[0]), float(size[1]), float(size[2]))

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the sha256 of shape and affine."""
        return hashlib.sha256(repr((self.shape, self.affine)).encode()).hexdigest()[:12]

    def same_grid(self, other: Space, tolerance_mm: float = 0.01) -> bool:
        """Return True where no voxel centre differs by more than `tolerance_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, s - 1) for s in self.shape])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(8)])
        apart = (self.matrix - other.matrix) @ corners
        return bool(np.abs(apart[:3]).max() <= tolerance_mm)

    def regrid(
        self,
        shape: tuple[int, int, int] | None = None,
        spacing: float | None = None,
        centre: tuple[float, float, float] | None = None,
    ) -> Space:
        """Return a grid with the same axes and another shape or spacing.

        Parameters
        ----------
        shape
            Voxels along each axis; None: as many as cover this space's field of view.
        spacing
            Isotropic voxel size in mm; None: the field of view is kept and divided by `shape`
            (the resize of the paper), so the spacing may differ between axes.
        centre
            The point, in mm, in the middle of the new grid; None: the middle of this one.

        Raises
        ------
        UsageError
            The shape or the spacing is not positive, or the grid needs more memory than the limit.
        """
        if shape is not None and (len(shape) != 3 or min(shape) < 1):
            raise UsageError(f"shape: three positive numbers are needed; found {shape}.")
        if spacing is not None and not spacing > 0:
            raise UsageError(f"spacing: a positive number of mm is needed; found {spacing}.")
        extent = np.array(self.shape) * np.array(self.spacing)
        if shape is None:
            if spacing is None:
                return self
            with np.errstate(over="ignore"):
                wanted = np.maximum(1, np.ceil(extent / spacing - 1e-6)).tolist()
            shape = _allowed((wanted[0], wanted[1], wanted[2]), spacing)
        _allowed(shape, spacing)
        voxel = extent / np.array(shape) if spacing is None else np.full(3, spacing)
        direction = self.matrix[:3, :3] / np.array(self.spacing)
        middle = self.matrix[:3, :3] @ ((np.array(self.shape) - 1) / 2) + self.matrix[:3, 3]
        if centre is not None:
            middle = np.array(centre)
        affine = np.eye(4)
        affine[:3, :3] = direction * voxel
        affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
        return Space.of(shape, affine)

    def on_voxels_of(self, other: Space) -> Space:
        """Return this grid, moved by half a voxel at most, so that its voxels are the other's.

        A volume on the other grid is then cropped and not interpolated. A grid with other voxel
        sizes or other axes stays where it is.
        """
        if not np.allclose(self.matrix[:3, :3], other.matrix[:3, :3], rtol=0, atol=1e-4):
            return self
        first = np.linalg.solve(other.matrix, self.matrix[:, 3])
        return Space.of(
            self.shape, np.column_stack([other.matrix[:, :3], other.matrix @ np.round(first)])
        )

    def __str__(self) -> str:
        mm = self.spacing
        size = f"{mm[0]:.3g}" if np.ptp(mm) < 1e-3 else " x ".join(f"{s:.3g}" for s in mm)
        return f"{self.shape[0]} x {self.shape[1]} x {self.shape[2]} at {size} mm"


def _allowed(shape: tuple[float, float, float], spacing: float | None) -> tuple[int, int, int]:
    """Return the shape of a new grid, or raise where its volumes need too much memory."""
    if not min(shape) >= 1:
        raise UsageError(f"a grid of {' x '.join(map(str, shape))} voxels: each axis needs one.")
    # One volume, what it is resampled from, and both blurred: 32 bits each.
    needed = 16.0 * shape[0] * shape[1] * shape[2]
    too_large = beyond_limit(int(min(needed, 1e30)))
    if too_large:
        words = " x ".join(f"{side:.6g}" for side in shape)
        size = "" if spacing is None else f" (voxels of {spacing:g} mm)"
        raise UsageError(f"a grid of {words} voxels{size} {too_large}.")
    return int(shape[0]), int(shape[1]), int(shape[2])


MAX_RATIO = 1000.0
"""The most voxels that one coarser voxel may cover along an axis."""

# 84 x 128 x 84 over the field of view of MNI152 at 1 mm in FSL's and SPM's convention
# (181 x 217 x 181 voxels, centres from -90 -126 -72 to 90 90 108 mm): the paper's grid.
PAPER_GRID = Space.of(
    (181, 217, 181),
    np.array([[1, 0, 0, -90], [0, 1, 0, -126], [0, 0, 1, -72], [0, 0, 0, 1]]),
).regrid((84, 128, 84))


def resample(
    volume: Float32[np.ndarray, "a b c"], source: Space, target: Space
) -> Float32[np.ndarray, "d h w"]:
    """Return a volume on another grid: antialiased, linear, zero outside.

    Before it is sampled more coarsely along an axis, the volume is blurred along it with a
    Gaussian of sigma = sqrt(ratio^2 - 1) / 2.355 source voxels, which gives the coarse voxel
    its own point-spread function (Cardoso et al. 2015, MICCAI). Linear interpolation cannot
    overshoot the range of the input.

    Raises
    ------
    UsageError
        The target needs more memory than the limit, or one of its voxels covers more than
        `MAX_RATIO` of the source along an axis.
    """
    if source.same_grid(target):
        return volume
    _allowed(target.shape, None)
    with np.errstate(invalid="ignore", over="ignore"):  # a protocol may state any number
        mapping = np.linalg.inv(source.matrix) @ target.matrix
    # Along each source axis, the most voxels that one step along a target axis crosses.
    ratio = np.abs(mapping[:3, :3]).max(axis=1)
    if not ratio.max() <= MAX_RATIO:
        raise UsageError(
            f"a volume of {source} cannot be brought to a grid of {target.shape}: its voxels are "
            "too large. Correct the grid's voxel size."
        )
    sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / 2.355
    smooth = ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=4.0)
    moved = ndimage.affine_transform(
        smooth, mapping[:3, :3], mapping[:3, 3], output_shape=target.shape, order=1, cval=0.0
    )
    return np.asarray(moved, dtype=np.float32)
