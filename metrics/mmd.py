"""Maximum mean discrepancy: unbiased estimates.

A statistic of two sets holds three kernel matrices. That of large sets holds none, and computes
them in blocks (`synthbench.metrics.blocked.discrepancy`).

References
----------
Gretton et al., "A kernel two-sample test", JMLR 13 (2012): equation 3 is the U-statistic.
Binkowski et al., "Demystifying MMD GANs", ICLR 2018: the polynomial kernel of KID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.blocked.discrepancy import BlockedDiscrepancy, MeanKernels
from synthbench.metrics.inference.pairs import (
    between_mean,
    between_row_means,
    ratio,
    variance_of_mean,
    within_mean,
    within_row_means,
)
from synthbench.metrics.inference.resampling import LARGE_SET, estimate
from synthbench.metrics.kernels import (
    check_bandwidth,
    check_subjects,
    gaussian_kernel,
    gaussian_kernel_of_centred,
    median_bandwidth,
    polynomial_kernel,
    row_blocks,
    subject_means,
    zero_within_subjects,
)
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Target,
    Weights,
    as_float64,
    check_features,
    ones,
)
from synthbench.metrics.mmd_permutation import permutation_p, weight_of_others
from synthbench.metrics.subjects import n_subjects, subject_index

SATURATED = 0.95
"""From this share of its ceiling on, a Gaussian-kernel MMD^2 means "far" and orders nothing.

MMD^2 = A + B - 2 C, with A and B the mean kernels within the two sets and C the mean kernel
between them. Its ceiling is A + B, where C is zero. At 0.95 the cross term is 5% of the ceiling:
a synthetic set with twice the mean cross kernel would change MMD^2 by 5% only, while B changes it
with the spread of the synthetic set. For two sets of equal spread and many dimensions, a shift s
of the means leaves a share exp(-s^2 / (2 l^2)) of the cross term. So 0.95 is reached at
s = l sqrt(2 ln 20), or 2.4 bandwidths, and any larger shift changes MMD^2 by at most a twentieth.
"""

_RowMeans = Mapping[str, tuple[Float64[np.ndarray, "b n"], Float64[np.ndarray, "b n"]]]


@dataclass(frozen=True)
class KernelDiscrepancy(MeanKernels):
    """MMD^2 of two sets as a function of weights, from kernel matrices.

    Attributes
    ----------
    real, synth
        Kernel matrices within the sets, zero for pairs within a subject.
    cross
        Kernel matrix of real rows and synthetic columns.
    subjects
        For each role, the subject index of each image.
    """

    real: Float64[np.ndarray, "n n"]
    synth: Float64[np.ndarray, "m m"]
    cross: Float64[np.ndarray, "n m"]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    def mean_kernels(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The mean kernel within the real set, within the synthetic set, and between them."""
        w, v = weights["real"], weights["synth"]
        return (
            within_mean(self.real, w, self.subjects["real"]),
            within_mean(self.synth, v, self.subjects["synth"]),
            between_mean(self.cross, w, v),
        )

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image, 2 g_i and 2 h_j.

        g_i is image i's mean kernel with its own set minus that with the other set; h_j likewise.
        """
        return _contributions(self._row_means(weights))

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n + 4 var(h)/m, the variance of the U-statistic's first-order term."""
        return self._variance(self._row_means(weights), weights)

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The value and the variance, which share their products with the kernel matrices."""
        means = self._row_means(weights)
        value = -2 * _mean(means["real"][1], weights["real"])
        for role, (within, _) in means.items():
            w = weights[role]
            value += _mean(within, w * weight_of_others(w, self.subjects[role]))
        return value, self._variance(means, weights)

    def null_variance(self) -> float:
        """2 (1/n + 1/m)^2 times the mean square of the pooled kernel, centred; n and m subjects.

        It is the variance of U under relabelling of the subjects (Gretton et al. 2012, appendix
        B.3, for n = m), and so holds where the first-order terms of `variance` vanish.
        """
        n, m = (n_subjects(self.subjects[role]) for role in ("real", "synth"))
        real = subject_means(self.real, self.subjects["real"], self.subjects["real"])
        synth = subject_means(self.synth, self.subjects["synth"], self.subjects["synth"])
        cross = subject_means(self.cross, self.subjects["real"], self.subjects["synth"])
        others = n + m - 1
        of_real = (real.sum(axis=1) + cross.sum(axis=1)) / others
        of_synth = (synth.sum(axis=1) + cross.sum(axis=0)) / others
        rows = np.concatenate([of_real, of_synth])
        mean = float(rows.mean())
        # Pairs of a subject with itself are zero in the kernel and do not count.
        square = -float(((mean - 2 * rows) ** 2).sum())
        for block, left, right, times in (
            (real, of_real, of_real, 1), (synth, of_synth, of_synth, 1),
            (cross, of_real, of_synth, 2),
        ):  # fmt: skip
            for chunk in row_blocks(block):
                centred = block[chunk] - left[chunk, None] - right + mean
                square += times * float((centred**2).sum())
        return 2 * (1 / n + 1 / m) ** 2 * square / ((n + m) * others)

    def _row_means(self, weights: Weights) -> _RowMeans:
        """For each role, each image's mean kernel with its own set, and with the other set."""
        w, v = weights["real"], weights["synth"]
        return {
            "real": (
                within_row_means(self.real, w, self.subjects["real"]),
                between_row_means(self.cross, v),
            ),
            "synth": (
                within_row_means(self.synth, v, self.subjects["synth"]),
                between_row_means(self.cross.T, w),
            ),
        }

    def _variance(self, means: _RowMeans, weights: Weights) -> Float64[np.ndarray, " b"]:
        total: Float64[np.ndarray, " b"] = np.zeros(len(weights["real"]))
        for role, terms in _contributions(means).items():
            total += variance_of_mean(terms, weights[role], self.subjects[role])
        return total


class _OfGaussianKernel:
    """MMD^2 under a Gaussian kernel, whose values lie in (0, 1]: it has a ceiling."""

    @property
    def saturation(self) -> float:
        """MMD^2 as a share of its ceiling, 1 - 2 C / (A + B).

        A and B are the mean kernels over pairs within the real and the synthetic set, C the mean
        over pairs of both sets. At most 1, where the kernel is zero between the sets. About 0,
        and possibly below it, for equal distributions.

        Raises
        ------
        MetricError
            The kernel is zero within both sets too.
        """
        assert isinstance(self, KernelDiscrepancy | BlockedDiscrepancy)
        within_real, within_synth, _ = self.mean_kernels(ones(self))
        ceiling = float(within_real[0] + within_synth[0])
        if not ceiling > 0:
            raise MetricError(
                "mmd2: the kernel must be above zero for some pair of images of a set; found 0 "
                "for all of them, so the bandwidth is far too small. Use median_bandwidth(real).",
                "small bandwidth",
            )
        return estimate(self) / ceiling

    @property
    def saturated(self) -> bool:
        """True where the value is so near its ceiling that it orders nothing (`SATURATED`)."""
        return self.saturation >= SATURATED


@dataclass(frozen=True)
class GaussianDiscrepancy(_OfGaussianKernel, KernelDiscrepancy):
    """MMD^2 under a Gaussian kernel, from kernel matrices."""


@dataclass(frozen=True)
class BlockedGaussianDiscrepancy(_OfGaussianKernel, BlockedDiscrepancy):
    """MMD^2 under a Gaussian kernel, from features: for large sets."""


class MMD2(BaseMetric):
    """Squared maximum mean discrepancy under a Gaussian (RBF) kernel; unbiased, may be negative."""

    name = "mmd2"
    label = "MMD² (RBF)"
    drawn = True
    formula = "U-statistic; exp(-|a-b|^2 / (2 l^2)); l^2 = median |a-b|^2 over distinct real pairs"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    # Resamples of a large set take as long as all its kernels; this interval needs none.
    large_interval: IntervalMethod | None = "asinh"
    sees = "any difference between the two feature distributions, at the scale of the bandwidth"
    misses = "differences far below or above that scale, and whatever the extractor discards"
    responds_to: tuple[str, ...] = ("blur",)

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The bandwidth of the real set, as {"bandwidth": l}.

        Raises
        ------
        MetricError
            There are no real features, or `median_bandwidth` refuses them.
        """
        if real is None:
            raise MetricError("mmd2: the bandwidth needs the real features; found none. Pass real.")
        return {"bandwidth": median_bandwidth(real, subjects)}

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        bandwidth: float | None = None,
        **settings: Any,
    ) -> GaussianDiscrepancy | BlockedGaussianDiscrepancy:
        """Compute the kernel matrices, and return their statistic.

        With more than `synthbench.metrics.inference.resampling.LARGE_SET` images in a role, the
        statistic computes them in blocks of rows whenever it needs them.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.
        bandwidth
            l of exp(-|a - b|^2 / (2 l^2)), in feature units. None: `median_bandwidth` of the real
            set. A benchmark passes the number that it froze.

        Raises
        ------
        MetricError
            The features or the bandwidth are unusable, or a role has fewer than two subjects.
        """
        sets = check_features(self.name, widen=False, real=real, synth=synth)
        x, y = sets["real"], sets["synth"]
        index = subject_index(subjects, real=len(x), synth=len(y))
        if bandwidth is None:
            bandwidth = median_bandwidth(x, index["real"])
        check_bandwidth(bandwidth)
        check_subjects(index)
        if max(len(x), len(y)) > LARGE_SET:
            blocked = partial(gaussian_kernel_of_centred, bandwidth=bandwidth)
            # A floor has one set in both roles.
            y, origin = x if synth is real else y, x.mean(axis=0, dtype=np.float64)
            return BlockedGaussianDiscrepancy(x, y, blocked, index, origin)
        x, y = as_float64(x), as_float64(y)
        kernel = partial(gaussian_kernel, bandwidth=bandwidth)
        return GaussianDiscrepancy(
            real=zero_within_subjects(kernel(x, x), index["real"]),
            synth=zero_within_subjects(kernel(y, y), index["synth"]),
            cross=kernel(x, y),
            subjects=index,
        )

    def p_value(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        permutations: int,
        seed: int,
        subjects: Mapping[str, np.ndarray] | None = None,
        bandwidth: float | None = None,
        **settings: Any,
    ) -> float:
        """The p-value of `permutation_p`; without a bandwidth, that of the real set is used."""
        if bandwidth is None:
            bandwidth = median_bandwidth(real, None if subjects is None else subjects.get("real"))
        return permutation_p(
            real, synth, bandwidth, permutations=permutations, seed=seed, subjects=subjects
        )


class KID(BaseMetric):
    """Kernel inception distance: MMD^2 under the cubic kernel, on whole sets; may be negative."""

    name = "kid"
    label = "KID"
    formula = "U-statistic; (a.b / d + 1)^3, d features; whole sets, no subsets"
    target: Target = "zero"
    interval: IntervalMethod = "asinh"
    sees = "differences in the first three moments of the features; unbiased at any n"
    misses = "higher moments; its unit is the features' own, so extractors are not comparable"
    responds_to: tuple[str, ...] = ("blur", "bias")

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> KernelDiscrepancy | BlockedDiscrepancy:
        """Compute the kernel matrices, and return their statistic; in blocks as `MMD2.prepare`.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.

        Raises
        ------
        MetricError
            The features are unusable, or a role has fewer than two subjects.
        """
        # The kernel is cubic in products of two features, and the variance squares it.
        sets = check_features(self.name, 12, widen=False, real=real, synth=synth)
        x, y = sets["real"], sets["synth"]
        index = subject_index(subjects, real=len(x), synth=len(y))
        check_subjects(index)
        if max(len(x), len(y)) > LARGE_SET:
            return BlockedDiscrepancy(x, x if synth is real else y, polynomial_kernel, index)
        x, y = as_float64(x), as_float64(y)
        return KernelDiscrepancy(
            real=zero_within_subjects(polynomial_kernel(x, x), index["real"]),
            synth=zero_within_subjects(polynomial_kernel(y, y), index["synth"]),
            cross=polynomial_kernel(x, y),
            subjects=index,
        )


def mmd2(
    x: Float64[np.ndarray, "n d"],
    y: Float64[np.ndarray, "m d"],
    bandwidth: float | None = None,
) -> float:
    """Return the unbiased MMD^2 under a Gaussian kernel (Gretton et al. 2012, equation 3).

    Parameters
    ----------
    x, y
        Features of the real and the synthetic images.
    bandwidth
        Kernel bandwidth in feature units; None is `median_bandwidth(x)`.

    Returns
    -------
    The estimate, at most 2; its expectation is zero for equal distributions, so it may be
    negative.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0]])
    >>> round(mmd2(x, x, bandwidth=1.0), 6)  # exp(-1/2) - 1
    -0.393469
    """
    return estimate(MMD2().prepare(x, y, bandwidth=bandwidth))


def kid(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Return the kernel inception distance of whole sets: unbiased MMD^2 under the cubic kernel.

    Parameters
    ----------
    x, y
        Features of the real and the synthetic images.

    Returns
    -------
    The estimate; its expectation is zero for equal distributions, so it may be negative.

    Examples
    --------
    >>> x = np.array([[0.0], [1.0]])
    >>> kid(x, x)  # within: 1 twice; across: (1 + 1 + 1 + 8) / 4
    -3.5
    """
    return estimate(KID().prepare(x, y))


def _contributions(means: _RowMeans) -> dict[str, Float64[np.ndarray, "b n"]]:
    return {role: 2 * (within - across) for role, (within, across) in means.items()}


def _mean(
    values: Float64[np.ndarray, "b n"], w: Float64[np.ndarray, "b n"]
) -> Float64[np.ndarray, " b"]:
    return ratio((values * w).sum(axis=1), w.sum(axis=1))
