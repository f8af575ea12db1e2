"""Paired measures of an image and its target: PSNR, SSIM and MAE inside a mask.

They are for tasks in which each synthetic image has a true one: reconstruction, translation between
contrasts, super-resolution. An unconditional generator has no targets, and none of these measures
says anything about it.

All are computed in float64, with the range of intensities that the caller declares.

References
----------
Wang, Bovik, Sheikh and Simoncelli, IEEE TIP 13:600, 2004: SSIM, equation 13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy import ndimage
from scipy.special import stdtrit

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import variance_of_mean
from synthbench.metrics.metric import as_float64
from synthbench.metrics.subjects import n_subjects

WINDOW, SIGMA = 11, 1.5
"""Side of the Gaussian window of SSIM and its standard deviation, in voxels (Wang et al. 2004)."""

K1, K2 = 0.01, 0.03

Volume = Float32[np.ndarray, "d h w"]
Mask = Bool[np.ndarray, "d h w"]


def mae(image: Volume, target: Volume, mask: Mask | None = None) -> float:
    """Return the mean absolute error, in the unit of the intensities.

    Parameters
    ----------
    image, target
        Volumes on one grid, in one unit. Signed intensities are allowed.
    mask
        The voxels that count; None: all.

    Raises
    ------
    MetricError
        The shapes differ, a volume is not finite, or the mask is empty.
    """
    x, y, inside = _checked("MAE", image, target, mask)
    return float(np.abs(x - y)[inside].mean())


def psnr(image: Volume, target: Volume, mask: Mask | None = None, data_range: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB, 10 log10(data_range^2 / mean squared error).

    Parameters
    ----------
    image, target, mask
        As for `mae`.
    data_range
        The range of the intensities: their largest possible value less the smallest.

    Returns
    -------
    Decibels, higher is better; infinity where image and target are equal.

    Raises
    ------
    MetricError
        As for `mae`, or the range is not above zero.
    """
    x, y, inside = _checked("PSNR", image, target, mask)
    _check_range(data_range)
    squared = float(((x - y)[inside] ** 2).mean())
    return math.inf if squared == 0 else 10 * math.log10(data_range**2 / squared)


def ssim(image: Volume, target: Volume, mask: Mask | None = None, data_range: float = 1.0) -> float:
    """Return the structural similarity of two volumes, under a Gaussian window of 11 voxels.

    The mean is over the voxels of the mask around which the whole window lies inside the grid. The
    local variances have the weights of the window and no correction of their divisor.

    Parameters
    ----------
    image, target, mask, data_range
        As for `psnr`. Luminance is compared as it is, so it should not be centred on zero: for
        signed intensities subtract their smallest possible value first.

    Returns
    -------
    A value in [-1, 1]: 1 for equal volumes, higher is better.

    Raises
    ------
    MetricError
        As for `psnr`, or a side is shorter than the window.
    """
    x, y, inside = _checked("SSIM", image, target, mask)
    _check_range(data_range)
    if min(x.shape) < WINDOW:
        raise MetricError(
            f"SSIM: every side must have at least {WINDOW} voxels; found {x.shape}. Use PSNR and "
            "MAE.",
            "small grid",
            needed=WINDOW,
            found=min(x.shape),
        )
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    variance_x = _local_mean(x * x) - mean_x**2
    variance_y = _local_mean(y * y) - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    counted = _inner(inside)
    if not counted.any():
        raise MetricError(
            "SSIM: no voxel of the mask is so far inside the grid that the window fits around it. "
            "Use another mask, or PSNR and MAE.",
            "empty mask",
        )
    return float((luminance * structure)[counted].mean())


def _local_mean(x: Float64[np.ndarray, "d h w"]) -> Float64[np.ndarray, "_ _ _"]:
    offsets = np.arange(WINDOW) - (WINDOW - 1) / 2
    window = np.exp(-((offsets / SIGMA) ** 2) / 2)
    window /= window.sum()
    for axis in range(3):
        x = ndimage.correlate1d(x, window, axis=axis, mode="constant")
    return np.asarray(_inner(x))


def _inner(x: np.ndarray) -> np.ndarray:
    """The voxels around which the whole window lies inside the grid."""
    half = WINDOW // 2
    return x[half:-half, half:-half, half:-half]


def _checked(
    name: str, image: Volume, target: Volume, mask: Mask | None
) -> tuple[Float64[np.ndarray, "d h w"], Float64[np.ndarray, "d h w"], Mask]:
    x, y = as_float64(image), as_float64(target)
    inside = np.ones(y.shape, dtype=np.bool_) if mask is None else np.asarray(mask, dtype=np.bool_)
    if x.ndim != 3 or not x.shape == y.shape == inside.shape:
        raise MetricError(
            f"{name}: image, target and mask must be volumes on one grid; found the shapes "
            f"{x.shape}, {y.shape} and {inside.shape}. Resample the image to its target's grid.",
            "another grid",
        )
    broken = sum(not np.isfinite(volume[inside]).all() for volume in (x, y))
    if broken:
        raise MetricError(
            f"{name}: NaN or infinity inside the mask, in {broken} of image and target. Look for "
            "the cause before you compare them.",
            "not finite",
            found=broken,
        )
    if not inside.any():
        raise MetricError(f"{name}: the mask is empty.", "empty mask")
    return x, y, inside


def _check_range(data_range: float) -> None:
    if not 0 < data_range < math.inf:
        raise MetricError(f"data_range must be above zero; found {data_range}.")


@dataclass(frozen=True)
class MeanOfPairs:
    """The mean of a measure over pairs, with an interval by subjects.

    Attributes
    ----------
    value
        The mean.
    low, high
        value -+ t sqrt(V), with the t distribution of the number of subjects less one, and V the
        variance of a mean by subjects (`synthbench.metrics.inference.pairs.variance_of_mean`).
    """

    value: float
    low: float
    high: float


def mean_of_pairs(
    values: Float64[np.ndarray, " n"], subjects: Int64[np.ndarray, " n"], level: float = 0.95
) -> MeanOfPairs:
    """Return the mean of one value per pair, with its interval.

    Parameters
    ----------
    values
        One per pair.
    subjects
        The subject of each, numbered from 0: scans of one subject are one unit.
    level
        The coverage.

    Raises
    ------
    MetricError
        There are fewer than two subjects.
    """
    n = n_subjects(subjects)
    if n < 2:
        raise MetricError(
            f"an interval by subjects needs at least 2 subjects; found {n}.",
            "too few subjects",
            needed=2,
            found=n,
        )
    variance = variance_of_mean(values[None], np.ones((1, len(values))), subjects)
    half = float(stdtrit(n - 1, (1 + level) / 2) * np.sqrt(variance[0]))
    mean = float(values.mean())
    return MeanOfPairs(mean, mean - half, mean + half)
