"""Seams between slices: energy of differences along each axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.ndimage import uniform_filter1d

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import distinct_pairs, ratio
from synthbench.metrics.kernels import squared_distances
from synthbench.metrics.metric import Weights
from synthbench.metrics.mmd import KernelDiscrepancy
from synthbench.metrics.radial_spectrum import QUANTUM, bounding_box, checked_spacing, others

AXES = ("x", "y", "z")

PATCH_MM = 30.0
"""Side of the patches over which differences between slices are averaged."""

SLICE_SHARE = 0.2
"""A slice counts where its part of the mask is at least this share of the largest slice's."""


@dataclass(frozen=True)
class SeamDistance:
    """Squared difference of the sets' mean seam profiles along an axis; dB^2.

    Isotropic blur, noise and contrast move the levels of all axes alike, so profiles are taken
    relative to the volume's mean level along another axis: that of the other two which rose
    less from the real to the synthetic set, because a seam along one axis should not move the
    numbers of the others. The choice biases it upward by less than the sampling variance of a
    mean level.

    Attributes
    ----------
    first, second
        The distance relative to the one and to the other of the other axes.
    levels
        For each role, the images' mean levels along these two, in dB.
    """

    first: KernelDiscrepancy
    second: KernelDiscrepancy
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
        """The variance of its first-order term, as if the axis were given."""
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
    """How much each slice stands out from its two neighbours, along x, y and z.

    For a slice: the second difference across it, averaged over in-plane patches of `PATCH_MM`
    so that a jump of a whole plane counts for more than anatomy does, squared, and averaged over
    the slice.

    Parameters
    ----------
    volume, mask, spacing
        See `radial_profile`.

    Returns
    -------
    For each axis, dB of squared intensity at each slice that holds enough of the mask.

    Raises
    ------
    MetricError
        The mask is too small, or the spacing is no three positive numbers.
    """
    return seam_profiles_of(volume, slices_of(mask, checked_spacing(spacing)))


# Seams


@dataclass(frozen=True)
class _Slices:
    """Where seams along one axis are looked for, all in the mask's bounding box.

    `inside` marks voxels that lie in the mask with both neighbours along the axis; `voxels` is
    their number around each voxel, over the patch; `kept` are the slices with enough of them.
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
            f"{int(mask.sum())} voxels without both neighbours. Use a solid mask."
        )
    voxels = _patch_sums(inside.astype(np.float32), patch)
    return _Slices(axis, box, inside, patch, voxels, per_slice[kept], kept)


def seam_profiles_of(
    volume: Float32[np.ndarray, "d h w"], slices: list[_Slices]
) -> list[Float64[np.ndarray, " _"]]:
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
    first, second = (
        KernelDiscrepancy(
            **mean_kernels(_relative(real, axis, other), _relative(synth, axis, other), index)
        )
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
    """The blocks of an axis's profiles, relative to the mean level along another."""
    relative = seams[axis].copy()
    relative[:, 0] -= seams[other][:, 0]
    return relative


def mean_kernels(
    x: Float64[np.ndarray, "n k"],
    y: Float64[np.ndarray, "m k"],
    index: Mapping[str, Int64[np.ndarray, " _"]],
) -> dict[str, Any]:
    """The fields of a `KernelDiscrepancy` that is the squared distance between mean rows.

    The kernel is -|a - b|^2 / 2: for one image per subject its U-statistic is that of the linear
    kernel, and for several it does not depend on the origin, as that of the linear kernel does.
    """
    return {
        "real": distinct_pairs(-squared_distances(x, x) / 2, index["real"]),
        "synth": distinct_pairs(-squared_distances(y, y) / 2, index["synth"]),
        "cross": -squared_distances(x, y) / 2,
        "subjects": index,
    }
