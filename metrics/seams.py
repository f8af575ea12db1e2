"""Seams: planes of a volume that stand out from their neighbours, along each axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.ndimage import uniform_filter1d

from synthbench.errors import MetricError
from synthbench.metrics.blocked.means import BlockedMeanDistance, half_negative_squares
from synthbench.metrics.inference.pairs import distinct_pairs, ratio
from synthbench.metrics.inference.resampling import LARGE_SET
from synthbench.metrics.kernels import squared_distances
from synthbench.metrics.metric import Weights
from synthbench.metrics.mmd import KernelDiscrepancy
from synthbench.metrics.radial_spectrum import QUANTUM, bounding_box, checked_spacing, others

AXES = ("x", "y", "z")

PATCH_MM = 30.0
"""Side in mm of the patches over which differences between slices are averaged."""

SLICE_SHARE = 0.2
"""A slice counts where it holds at least this share of the mask voxels of the largest slice."""


@dataclass(frozen=True)
class SeamDistance:
    """Squared difference of the sets' mean seam profiles along an axis; dB^2.

    Isotropic blur, noise and contrast change the levels along all axes alike. So profiles are
    relative to the volume's mean level along another axis. Of the two other axes it is the one
    whose level rose less from the real to the synthetic set, because a seam along one axis must
    not change the numbers of the others. This choice biases the distance upward by less than the
    sampling variance of a mean level.

    Attributes
    ----------
    first, second
        The distances relative to the first and to the second of the two other axes.
    levels
        For each role, the images' mean levels along these two axes, in dB.
    """

    first: KernelDiscrepancy | BlockedMeanDistance
    second: KernelDiscrepancy | BlockedMeanDistance
    levels: Mapping[str, Float64[np.ndarray, "n 2"]]

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, by role."""
        return self.first.subjects

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The U-statistic relative to the axis that rose less."""
        return np.where(
            self._first_rose_less(weights), self.first.value(weights), self.second.value(weights)
        )

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The three mean kernels in absolute values, relative to the axis that rose less."""
        return np.where(
            self._first_rose_less(weights),
            self.first.magnitude(weights),
            self.second.magnitude(weights),
        )

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The variance of its first-order term; the choice of the axis is taken as fixed."""
        return np.where(
            self._first_rose_less(weights),
            self.first.variance(weights),
            self.second.variance(weights),
        )

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image."""
        chosen = self._first_rose_less(weights)[:, None]
        second = self.second.contributions(weights)
        return {
            role: np.where(chosen, terms, second[role])
            for role, terms in self.first.contributions(weights).items()
        }

    def _first_rose_less(self, weights: Weights) -> Bool[np.ndarray, " b"]:
        means = {
            role: ratio(weights[role] @ levels, weights[role].sum(axis=1, keepdims=True))
            for role, levels in self.levels.items()
        }
        rise = means["synth"] - means["real"]
        return np.asarray(rise[:, 0] <= rise[:, 1])


def seam_profiles(
    volume: Float32[np.ndarray, "d h w"],
    mask: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> list[Float64[np.ndarray, " _"]]:
    """Return how much each slice stands out from its two neighbours, along x, y and z.

    The second difference across a slice is averaged over in-plane patches of `PATCH_MM`, so that
    a jump of a whole plane counts more than anatomy. The averages are squared, and their mean
    over the slice is the slice's value.

    Parameters
    ----------
    volume
        Intensities in [0, 1].
    mask
        The voxels that count.
    spacing
        Voxel sizes in mm.

    Returns
    -------
    For each axis, dB of squared intensity at each slice that holds enough of the mask.

    Raises
    ------
    MetricError
        The mask is too small, or the spacing is not three positive numbers.
    """
    return seam_profiles_of(volume, slices_of(mask, checked_spacing(spacing)))


@dataclass(frozen=True)
class _Slices:
    """The slices along one axis, in the mask's bounding box.

    `inside` is True for voxels that lie in the mask together with both neighbours along the axis.
    `voxels` is the number of such voxels in the patch around each voxel, `kept` the indices of the
    slices with enough of them, and `per_slice` their number in each of these slices.
    """

    axis: int
    box: tuple[slice, slice, slice]
    inside: Bool[np.ndarray, "d h w"]
    patch: tuple[int, int, int]
    voxels: Float32[np.ndarray, "d h w"]
    per_slice: Float64[np.ndarray, " k"]
    kept: Int64[np.ndarray, " k"]


def slices_of(
    mask: Bool[np.ndarray, "d h w"], spacing: tuple[float, float, float]
) -> list[_Slices]:
    """Return the slices along x, y and z; raise a MetricError where the mask is too small."""
    box = bounding_box(mask)
    cropped = mask[box]
    return [_slices_along(axis, box, cropped, spacing) for axis in range(3)]


def _slices_along(
    axis: int,
    box: tuple[slice, slice, slice],
    mask: Bool[np.ndarray, "d h w"],
    spacing: tuple[float, float, float],
) -> _Slices:
    below, here, above = _neighbours(mask, axis)
    inside = below & here & above
    sides = [2 * round((PATCH_MM / s - 1) / 2) + 1 for s in spacing]
    sides[axis] = 1
    patch = (max(1, sides[0]), max(1, sides[1]), max(1, sides[2]))
    per_slice = inside.sum(axis=others(axis)).astype(np.float64)
    kept = np.flatnonzero(per_slice >= max(1.0, SLICE_SHARE * per_slice.max()))
    if len(kept) == 0:
        raise MetricError(
            f"spectrum: the mask must be at least 3 voxels thick along {AXES[axis]}; found "
            f"{int(mask.sum())} voxels without both neighbours. Use a solid mask.",
            "thin mask",
            needed=3,
        )
    voxels = _patch_sums(inside.astype(np.float32), patch)
    return _Slices(axis, box, inside, patch, voxels, per_slice[kept], kept)


def seam_profiles_of(
    volume: Float32[np.ndarray, "d h w"], slices: list[_Slices]
) -> list[Float64[np.ndarray, " _"]]:
    """Return `seam_profiles` of a volume, for slices that many volumes share."""
    return [10 * np.log10(_slice_energies(volume, along)) for along in slices]


def _slice_energies(
    volume: Float32[np.ndarray, "d h w"], along: _Slices
) -> Float64[np.ndarray, " k"]:
    """Each slice's mean square patch average of the second difference across it."""
    below, here, above = _neighbours(volume[along.box], along.axis)
    difference = np.where(along.inside, below - 2 * here + above, np.float32(0))
    sums = _patch_sums(difference, along.patch)
    averages = np.divide(sums, along.voxels, out=np.zeros_like(sums), where=along.inside)
    squares = np.square(averages, dtype=np.float64).sum(axis=others(along.axis))
    energies: Float64[np.ndarray, " k"] = squares[along.kept] / along.per_slice + QUANTUM
    return energies


def _patch_sums(
    values: Float32[np.ndarray, "d h w"], patch: tuple[int, int, int]
) -> Float32[np.ndarray, "d h w"]:
    sums = values
    for axis, side in enumerate(patch):
        if side > 1:
            sums = uniform_filter1d(sums, side, axis=axis, mode="constant") * np.float32(side)
    return sums


def _neighbours(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slices before, at and after each inner position of an axis."""
    n = values.shape[axis]
    below, here, above = (values.take(range(k, n - 2 + k), axis=axis) for k in range(3))
    return below, here, above


def seam_distance(
    axis: int,
    real: list[Float64[np.ndarray, "n l"]],
    synth: list[Float64[np.ndarray, "m l"]],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> SeamDistance:
    """Return the distance along an axis, from the three blocks of each image's seam profiles.

    A block is the mean of a profile and its scaled deviations (`synthbench.metrics.spectrum`).
    """
    first, second = (
        mean_distance(_relative(real, axis, other), _relative(synth, axis, other), index)
        for other in others(axis)
    )
    levels = {
        role: np.stack([blocks[other][:, 0] for other in others(axis)], axis=1)
        for role, blocks in (("real", real), ("synth", synth))
    }
    return SeamDistance(first, second, levels)


def _relative(
    seams: list[Float64[np.ndarray, "n l"]], axis: int, other: int
) -> Float64[np.ndarray, "n l"]:
    """The blocks of the profiles along one axis, relative to the mean level along another."""
    relative = seams[axis].copy()
    relative[:, 0] -= seams[other][:, 0]
    return relative


def mean_distance(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, "m k"],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> KernelDiscrepancy | BlockedMeanDistance:
    """Return the squared distance between mean rows; that of large sets holds no matrix."""
    if max(len(x), len(y)) > LARGE_SET:
        return BlockedMeanDistance(**centred_rows(x, y, index))
    return KernelDiscrepancy(**mean_kernels(x, y, index))


def centred_rows(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, "m k"],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> dict[str, Any]:
    """Return the fields of a `BlockedMeanDistance`: near the origin, sums lose fewest digits."""
    origin = x.mean(axis=0)
    kernel = half_negative_squares
    return {"real": x - origin, "synth": y - origin, "kernel": kernel, "subjects": index}


def mean_kernels(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, "m k"],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> dict[str, Any]:
    """Return the fields of a `KernelDiscrepancy` that is the squared distance between mean rows.

    The kernel is -|a - b|^2 / 2. With one image per subject, its U-statistic is that of the linear
    kernel. With several, the linear kernel's would depend on the origin, and this one does not.
    """
    return {
        "real": distinct_pairs(-squared_distances(x, x) / 2, index["real"]),
        "synth": distinct_pairs(-squared_distances(y, y) / 2, index["synth"]),
        "cross": -squared_distances(x, y) / 2,
        "subjects": index,
    }
