"""Distance between the intensity distributions of two sets of volumes.

References
----------
Villani, "Optimal Transport", Springer 2009: in one dimension the Wasserstein-1 distance is the
area between the two cumulative distribution functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.metric import BaseMetric, Needs, Reuse, VolumeSource, Weights, as_float64

Array = np.ndarray | Tensor
"""Numbers as an array, or as a tensor on any device."""

LEVELS = 255
"""Number of thresholds of the cumulative distribution, half-way between 8-bit intensities."""

RANGE_TOLERANCE = 1e-6
"""Distance by which rounding may move an intensity out of [0, 1]."""


class Intensity(BaseMetric):
    """Wasserstein-1 distance between the sets' mean in-mask intensity distributions."""

    name = "intensity"
    label = "intensity (W1)"
    drawn = True
    formula = (
        "Wasserstein-1 distance of the sets' mean in-mask intensity distributions, "
        f"from cumulative shares at {LEVELS} thresholds (k + 1/2)/{LEVELS}"
    )
    needs: Needs = "volumes"
    reuse: Reuse | None = "volume"
    sees = "shifts, scalings and clipping of intensities, and wrong tissue proportions"
    misses = "where in the brain an intensity occurs, and how much volumes of a set differ"
    bounds: tuple[float, float] = (0.0, math.inf)
    responds_to: tuple[str, ...] = ("noise", "gamma", "bias")

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        known: Float64[np.ndarray, "n 255"] | None = None,
    ) -> Float64[np.ndarray, "n 255"]:
        """Return the cumulative distribution of each volume, one row of `cumulative_shares` each.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            The voxels that count, the same for real and synthetic volumes.
        settings
            Not used: none are frozen.
        progress
            Called with the number of volumes done and their total.
        known
            Rows of volumes that are not read; NaN for the others.

        Raises
        ------
        MetricError
            There are fewer than two volumes, the mask is empty, or a volume is on another grid,
            not finite or outside [0, 1].
        """

        def shares(volume: Float32[np.ndarray, "d h w"], index: int) -> Float64[np.ndarray, " 255"]:
            inside = volume[mask]
            _check_range(inside, index)
            return cumulative_shares(inside)

        check_set(self.name, volumes, mask)
        return measured_rows(self.name, volumes, mask, shares, progress, known)

    def value(
        self,
        real: Float64[np.ndarray, "n k"],
        synth: Float64[np.ndarray, "m k"],
        weights: Weights,
        **settings: Any,
    ) -> Float64[np.ndarray, " b"]:
        """The area between the weighted mean distributions, in [0, 1] intensity units."""
        gap = _weighted_mean(real, weights["real"]) - _weighted_mean(synth, weights["synth"])
        area: Float64[np.ndarray, " b"] = np.abs(gap).mean(axis=1)
        return area


@dataclass(frozen=True)
class Stack:
    """Volumes stacked in an array, or in a tensor on any device, read as float32 arrays.

    Attributes
    ----------
    stacked
        Its axes are (n, d, h, w).
    """

    stacked: Float32[Array, "n d h w"]

    def __len__(self) -> int:
        return len(self.stacked)

    def __getitem__(self, index: int, /) -> Float32[np.ndarray, "d h w"]:
        return as_float64(self.stacked[index]).astype(np.float32)


def intensity_distance(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None = None,
) -> float:
    """Return the Wasserstein-1 distance between the mean intensity distributions of two sets.

    All volumes have the same weight. It is exact for 8-bit intensities k/255; other intensities
    are rounded to the nearest of those.

    Parameters
    ----------
    x, y
        Real and synthetic volumes, intensities in [0, 1]: arrays, or tensors on any device.
    mask
        The voxels that count; None: all.

    Returns
    -------
    The distance, in [0, 1]. Sampling biases it upward, so two samples of one distribution do not
    reach zero.

    Raises
    ------
    MetricError
        `Intensity.measure` refuses the volumes or the mask.
    """
    inside = stack_mask(Intensity.name, x, mask)
    metric = Intensity()
    rows = [metric.measure(Stack(volumes), inside, {}) for volumes in (x, y)]
    return estimate(metric.prepare(rows[0], rows[1]))


def cumulative_shares(intensities: Float32[np.ndarray, " v"]) -> Float64[np.ndarray, " 255"]:
    """Return the share of intensities that are at most (k + 1/2)/255, for k = 0 to 254.

    >>> cumulative_shares(np.array([0.0, 1.0]))[[0, 254]]
    array([0.5, 0.5])
    """
    nearest = np.ceil(as_float64(intensities) * LEVELS - 0.5).clip(0, LEVELS).astype(np.int64)
    counts = np.bincount(nearest, minlength=LEVELS + 1)
    shares: Float64[np.ndarray, " 255"] = np.cumsum(counts[:LEVELS]) / intensities.size
    return shares


def stack_mask(
    metric: str, volumes: Float32[Array, "n d h w"], mask: Bool[Array, "d h w"] | None
) -> Bool[np.ndarray, "d h w"]:
    """Return the mask of a stack of volumes as an array; None is a mask of all voxels.

    Raises
    ------
    MetricError
        The stack does not have four axes.
    """
    if volumes.ndim != 4:
        raise MetricError(
            f"{metric}: volumes must be stacked along (n, d, h, w); found shape "
            f"{tuple(volumes.shape)}. Use np.stack, or x[None] for one volume."
        )
    if mask is None:
        return np.ones(tuple(volumes.shape[1:]), dtype=bool)
    return as_float64(mask) > 0


def check_set(metric: str, volumes: VolumeSource, mask: Bool[np.ndarray, "d h w"]) -> None:
    """Check the number of volumes and the mask before volumes are read.

    Raises
    ------
    MetricError
        There are fewer than two volumes, or the mask is empty.
    """
    if len(volumes) < 2:
        raise MetricError(
            f"{metric}: a set needs at least 2 volumes; found {len(volumes)}. Add more.",
            "too few images",
            needed=2,
            found=len(volumes),
        )
    if not mask.any():
        raise MetricError(
            f"{metric}: the mask must hold at least one voxel; found none of {mask.size}. "
            "Use the mask of the real set (synthbench.cohorts.cohort.majority_mask).",
            "empty mask",
        )


def measured_rows(
    metric: str,
    volumes: VolumeSource,
    mask: Bool[np.ndarray, "d h w"],
    row_of: Callable[[Float32[np.ndarray, "d h w"], int], Float64[np.ndarray, " k"]],
    progress: Callable[[int, int], None] | None,
    known: Float64[np.ndarray, "n k"] | None,
) -> Float64[np.ndarray, "n k"]:
    """Return one row per volume, computed from a volume and its index where it is not known.

    Raises
    ------
    MetricError
        A volume has another shape than the mask, or holds NaN or infinity.
    """
    missing = [i for i in range(len(volumes)) if known is None or np.isnan(known[i]).any()]
    rows = None if known is None else np.array(known)
    for done, (index, volume) in enumerate(_checked_volumes(metric, volumes, mask, missing), 1):
        row = row_of(volume, index)
        if rows is None:
            rows = np.empty((len(volumes), len(row)))
        rows[index] = row
        if progress is not None:
            progress(done, len(missing))
    assert rows is not None  # `_check_volumes` refuses a set without volumes
    return rows


def _checked_volumes(
    metric: str,
    volumes: VolumeSource,
    mask: Bool[np.ndarray, "d h w"],
    indices: Sequence[int],
) -> Iterator[tuple[int, Float32[np.ndarray, "d h w"]]]:
    """Yield these volumes one by one with their indices, each checked."""
    for index in indices:
        volume = volumes[index]
        if volume.shape != mask.shape:
            raise MetricError(
                f"{metric}: volumes and mask must share one grid; found volume {index} of shape "
                f"{volume.shape} and a mask of shape {mask.shape}. Bring all of them to one space.",
                "another grid",
            )
        if not np.isfinite(volume).all():
            raise MetricError(
                f"{metric}: volume {index} holds NaN or infinity. Remove or fix it.", "intensities"
            )
        yield index, volume


def _weighted_mean(
    rows: Float64[np.ndarray, "n k"], w: Float64[np.ndarray, "b n"]
) -> Float64[np.ndarray, "b k"]:
    return ratio(w @ rows, w.sum(axis=1, keepdims=True))


def _check_range(inside: Float32[np.ndarray, " v"], index: int) -> None:
    low, high = float(inside.min()), float(inside.max())
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise MetricError(
            f"intensity: intensities must lie in [0, 1]; found {low:.4g} to {high:.4g} in volume "
            f"{index}. Rescale the volumes first (synthbench.volumes.intensity.to_unit).",
            "intensities",
        )
