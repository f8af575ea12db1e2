"""Image quality without a reference: CJV, EFC and WM2MAX of each volume, compared as distributions.

MRIQC defines these for single scans. A synthetic set should have the same distribution of each as
the real one: a better quality than real is a difference too. Of MRIQC's other measures, SNR
(Dietrich), FBER, QI1 and QI2 need the air around the head, which skull-stripped volumes lack.

- CJV, coefficient of joint variation: (sd of white matter + sd of grey matter) over the difference
  of their means. Noise and bias fields raise it.
- EFC, entropy focus criterion: the entropy of the intensities relative to its maximum, 1 where all
  are equal. Blur and ghosts raise it.
- WM2MAX: mean of white matter over the 99.95th percentile of all intensities. Bright artefacts
  lower it.

MRIQC takes tissues from a segmentation and voxels from the whole frame. Here the tissues are a
mixture of three normal distributions that is fitted to the histogram inside the mask (fluid, grey
and white matter by their order on a T1-weighted scan), and voxels are those inside the mask. So
values are comparable between volumes of one protocol, and not with those of MRIQC.

References
----------
Esteban et al., "MRIQC", PLOS ONE 12(9), 2017, and its code `mriqc/qc/anatomical.py`.
Ganzetti, Wenderoth and Mantini, Front. Neuroinform. 10, 2016: CJV.
Atkinson et al., IEEE Trans. Med. Imaging 16, 1997: EFC.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.intensity import (
    LEVELS,
    RANGE_TOLERANCE,
    Array,
    Stack,
    check_set,
    measured_rows,
    stack_mask,
)
from synthbench.metrics.measures.distributions import deviation, wasserstein
from synthbench.metrics.metric import (
    BaseMetric,
    Needs,
    Part,
    Reuse,
    RowStatistic,
    VolumeSource,
    Weights,
    check_features,
)
from synthbench.metrics.subjects import subject_index

MEASURES = {"cjv": "CJV", "efc": "EFC", "wm2max": "WM2MAX"}
"""The columns of a volume's row, with their labels."""

ITERATIONS = 100
START = (0.1, 0.4, 0.8)
"""Quantiles of the intensities at which the means of the three tissues start."""

LEAST_SD = 1 / LEVELS
"""Least standard deviation of a tissue and least distance of two means: one 8-bit level."""

TOP_PERCENTILE = 99.95


@dataclass(frozen=True)
class TissueIntensities:
    """Means, standard deviations and shares of fluid, grey and white matter, darkest first."""

    means: Float64[np.ndarray, " 3"]
    sds: Float64[np.ndarray, " 3"]
    shares: Float64[np.ndarray, " 3"]


def tissue_intensities(inside: Float32[np.ndarray, " v"]) -> TissueIntensities:
    """Fit a mixture of three normal distributions to the histogram of 256 levels, by EM.

    Parameters
    ----------
    inside
        Intensities in [0, 1], not all equal.
    """
    levels = np.arange(LEVELS + 1) / LEVELS
    at = np.rint(inside.astype(np.float64).clip(0, 1) * LEVELS).astype(np.int64)
    counts = np.bincount(at, minlength=LEVELS + 1).astype(np.float64)
    means = np.quantile(levels[at], START)
    sds, shares = np.full(3, max(float(levels[at].std()) / 3, LEAST_SD)), np.full(3, 1 / 3)
    for _ in range(ITERATIONS):
        log_density = -0.5 * ((levels[:, None] - means) / sds) ** 2 + np.log(shares / sds)
        log_density -= log_density.max(axis=1, keepdims=True)
        posterior = np.exp(log_density)
        posterior *= (counts / posterior.sum(axis=1))[:, None]
        total = posterior.sum(axis=0) + 1e-9
        means = levels @ posterior / total
        variance = (posterior * (levels[:, None] - means) ** 2).sum(axis=0) / total
        sds, shares = np.maximum(np.sqrt(variance), LEAST_SD), total / total.sum()
    order = np.argsort(means)
    return TissueIntensities(means[order], sds[order], shares[order])


def cjv(tissues: TissueIntensities) -> float:
    """Return (sd of grey + sd of white matter) / |difference of their means|; above 0."""
    difference = max(float(tissues.means[2] - tissues.means[1]), LEAST_SD)
    return float(tissues.sds[1] + tissues.sds[2]) / difference


def efc(inside: Float32[np.ndarray, " v"]) -> float:
    """Return the entropy focus criterion, in [0, 1].

    With b = sqrt(sum of x^2), E = -sum of (x / b) log(x / b), over its maximum sqrt(n) log(sqrt(n))
    where all n intensities are equal. Zeros count as 0.

    >>> round(efc(np.array([0.5, 0.5, 0.5, 0.5])), 12), efc(np.array([0.0, 0.0, 1.0, 0.0]))
    (1.0, 0.0)
    """
    x = inside.astype(np.float64)
    x = x[x > 0] / math.sqrt(float(x @ x))
    root = math.sqrt(inside.size)
    return abs(float(-(x * np.log(x)).sum() / (root * math.log(root))))


def wm2max(inside: Float32[np.ndarray, " v"], tissues: TissueIntensities) -> float:
    """Return the mean of white matter over the 99.95th percentile of all intensities."""
    return float(tissues.means[2] / np.percentile(inside, TOP_PERCENTILE))


@dataclass(frozen=True)
class QualityStatistic(RowStatistic):
    """The mean distance of the measures, with the distance of each as a part."""

    measures: Mapping[str, RowStatistic] | None = None

    def parts(self) -> dict[str, Part]:
        """The distance of each measure in its own unit."""
        assert self.measures is not None
        return {
            key: Part(f"{MEASURES[key]} (W1)", statistic, tabled=True)
            for key, statistic in self.measures.items()
        }


class Quality(BaseMetric):
    """Mean Wasserstein-1 distance of CJV, EFC and WM2MAX, in real standard deviations."""

    name = "quality"
    label = "Image quality (W1 / sd)"
    formula = (
        "mean over CJV, EFC and WM2MAX of the Wasserstein-1 distance of real and synth / sd of "
        f"real (divisor n); inside the mask; tissues: three Gaussians by EM on {LEVELS + 1} levels"
    )
    needs: Needs = "volumes"
    reuse: Reuse | None = "volume"
    bounds: tuple[float, float] = (0.0, math.inf)
    sees = "noise, blur, bias fields and wrong contrast, each volume by itself"
    misses = (
        "anatomy and diversity; faults that keep the histogram; what needs air, as SNR and FBER"
    )
    responds_to: tuple[str, ...] = ("noise", "bias")

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        known: Float64[np.ndarray, "n 3"] | None = None,
    ) -> Float64[np.ndarray, "n 3"]:
        """Return CJV, EFC and WM2MAX of each volume.

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
            not finite, outside [0, 1], or constant inside the mask.
        """

        def row(volume: Float32[np.ndarray, "d h w"], index: int) -> Float64[np.ndarray, " 3"]:
            inside = volume[mask]
            low, high = float(inside.min()), float(inside.max())
            outside = low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE
            if outside or low == high:
                raise MetricError(
                    f"{self.name}: intensities inside the mask must lie in [0, 1] and differ; "
                    f"found {low:.4g} to {high:.4g} in volume {index}. Rescale the volumes, or "
                    "leave this one out.",
                    "intensities",
                )
            tissues = tissue_intensities(inside)
            return np.array([cjv(tissues), efc(inside), wm2max(inside, tissues)])

        check_set(self.name, volumes, mask)
        return measured_rows(self.name, volumes, mask, row, progress, known)

    def prepare(
        self,
        real: Float64[np.ndarray, "n 3"],
        synth: Float64[np.ndarray, "m 3"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> QualityStatistic:
        """Return the statistic of the rows of both sets.

        Raises
        ------
        MetricError
            The rows are unusable, or a measure is the same in all real volumes.
        """
        sets = check_features(self.name, real=real, synth=synth)
        x, y = sets["real"], sets["synth"]
        index = subject_index(subjects, real=len(x), synth=len(y))
        for column, label in zip(x.T, MEASURES.values(), strict=True):
            if np.ptp(column) == 0:
                raise MetricError(
                    f"{self.name}: {label} must differ between real volumes; all {len(column)} are "
                    f"{column[0]:.4g}. Look for duplicated volumes.",
                    "no spread",
                )

        def value(weights: Weights) -> Float64[np.ndarray, " b"]:
            distances = [
                ratio(wasserstein(a, b, weights), deviation(a, weights["real"]))
                for a, b in zip(x.T, y.T, strict=True)
            ]
            return np.asarray(np.mean(distances, axis=0))

        measures = {
            key: RowStatistic(partial(wasserstein, a, b), index, self.bounds)
            for key, a, b in zip(MEASURES, x.T, y.T, strict=True)
        }
        return QualityStatistic(value, index, self.bounds, measures=measures)


def quality_distance(
    x: Float32[Array, "n d h w"],
    y: Float32[Array, "m d h w"],
    mask: Bool[Array, "d h w"] | None = None,
) -> float:
    """Return the mean distance of the sets' CJV, EFC and WM2MAX, in real standard deviations.

    Parameters
    ----------
    x, y
        Real and synthetic volumes, intensities in [0, 1]: arrays, or tensors on any device.
    mask
        The voxels that count; None: all.

    Returns
    -------
    A value of at least 0. Sampling biases it upward, so two samples of one distribution do not
    reach zero.

    Raises
    ------
    MetricError
        `Quality.measure` or `Quality.prepare` refuses the volumes or the mask.
    """
    inside, metric = stack_mask(Quality.name, x, mask), Quality()
    rows = [metric.measure(Stack(volumes), inside, {}) for volumes in (x, y)]
    return estimate(metric.prepare(rows[0], rows[1]))
