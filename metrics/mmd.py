"""Maximum mean discrepancy: unbiased estimates, and a permutation test.

Kernel matrices are computed in place: at 10,000 images each takes 800 MB, and a statistic holds
three of them.

References
----------
Gretton et al., "A kernel two-sample test", JMLR 13 (2012): equation 3 is the U-statistic.
Binkowski et al., "Demystifying MMD GANs", ICLR 2018: the polynomial kernel of KID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    between_mean,
    between_row_means,
    estimate,
    n_subjects,
    ratio,
    subject_index,
    subject_sums,
    variance_of_mean,
    within_mean,
    within_row_means,
)
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Needs,
    Role,
    Target,
    VolumeSource,
    Weights,
    as_float64,
    check_features,
    ones,
)
from synthbench.metrics.voxels import voxel_gram

BANDWIDTH_FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)
"""Multiples of the bandwidth over which the permutation test takes its maximum, widest first."""

SATURATED = 0.95
"""From this share of its ceiling on, a Gaussian-kernel MMD^2 says "far", and orders nothing.

The ceiling A + B (the mean kernels within the two sets) is what remains where no kernel reaches
from one set to the other. At 0.95 the cross term is 5% of it: a synthetic set twice as near, by
the mean cross kernel, would move MMD^2 by 5%, while B moves it with the synthetic set's own
spread alone. For two sets of equal spread and many dimensions, a shift s of the means leaves a
share exp(-s^2 / (2 l^2)) of the cross term, so this is reached at s = l sqrt(2 ln 20), or 2.4
bandwidths: any shift from there to infinity changes MMD^2 by a twentieth.
"""

ROUNDING = 1e-12
"""Relative size below which a difference is rounding."""

BLOCK_NUMBERS = 2**22
"""Passes over an n x n matrix that need a copy take this many numbers at a time."""


_RowMeans = Mapping[str, tuple[Float64[np.ndarray, "b n"], Float64[np.ndarray, "b n"]]]


@dataclass(frozen=True)
class KernelDiscrepancy:
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

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted U-statistic: pairs of one subject, and so of one image, are left out."""
        w, v = weights["real"], weights["synth"]
        u: Float64[np.ndarray, " b"] = (
            within_mean(self.real, w, self.subjects["real"])
            + within_mean(self.synth, v, self.subjects["synth"])
            - 2 * between_mean(self.cross, w, v)
        )
        return u

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The three mean kernels, A + B + 2 C in absolute values, of which MMD^2 is A + B - 2 C."""
        w, v = weights["real"], weights["synth"]
        terms: Float64[np.ndarray, " b"] = (
            np.abs(within_mean(self.real, w, self.subjects["real"]))
            + np.abs(within_mean(self.synth, v, self.subjects["synth"]))
            + 2 * np.abs(between_mean(self.cross, w, v))
        )
        return terms

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image, 2 g_i and 2 h_j.

        g_i is image i's mean kernel with its own set less that with the other set; h_j likewise.
        """
        return _contributions(self._row_means(weights))

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n + 4 var(h)/m, the variance of the U-statistic's first-order term."""
        return self._variance(self._row_means(weights), weights)

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """Both at once: value and variance share their products with the kernel matrices."""
        means = self._row_means(weights)
        value = -2 * _mean(means["real"][1], weights["real"])
        for role, (within, _) in means.items():
            w = weights[role]
            value += _mean(within, w * _weight_of_others(w, self.subjects[role]))
        return value, self._variance(means, weights)

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


@dataclass(frozen=True)
class GaussianDiscrepancy(KernelDiscrepancy):
    """MMD^2 under a Gaussian kernel, whose values lie in (0, 1]: it has a ceiling."""

    @property
    def saturation(self) -> float:
        """MMD^2 as a share of its ceiling, 1 - 2 C / (A + B).

        A and B are the mean kernels over pairs within the real and the synthetic set, C over
        pairs across. At most 1, where no synthetic image is within reach of a real one; about 0,
        and as MMD^2 possibly below it, for equal distributions. See `SATURATED`.

        Raises
        ------
        MetricError
            The kernel is zero within both sets too.
        """
        weights = ones(self)
        ceiling = float(
            within_mean(self.real, weights["real"], self.subjects["real"])[0]
            + within_mean(self.synth, weights["synth"], self.subjects["synth"])[0]
        )
        if not ceiling > 0:
            raise MetricError(
                "mmd2: the kernel must be above zero for some pair of images of a set; found 0 "
                "for all of them, so the bandwidth is far too small. Use median_bandwidth(real)."
            )
        return estimate(self) / ceiling

    @property
    def saturated(self) -> bool:
        """Whether the value is so near its ceiling that it orders nothing (`SATURATED`)."""
        return self.saturation >= SATURATED


class MMD2(BaseMetric):
    """Squared maximum mean discrepancy under a Gaussian (RBF) kernel; unbiased, may be negative."""

    name = "mmd2"
    label = "MMD² (RBF)"
    drawn = True
    formula = "U-statistic; exp(-|a-b|^2 / (2 l^2)); l^2 = median |a-b|^2 over distinct real pairs"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
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
            There are no real features, or no bandwidth can be taken from them.
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
    ) -> GaussianDiscrepancy:
        """Compute the kernel matrices once.

        Parameters
        ----------
        real, synth
            Feature matrices, one row an image.
        subjects
            For each role, the subject of each image; None is one image a subject.
        bandwidth
            l of exp(-|a - b|^2 / (2 l^2)), in feature units. None is the median heuristic of
            the real set; a benchmark passes the number that it froze.

        Raises
        ------
        MetricError
            The features or the bandwidth are unusable, or a role has fewer than two subjects.
        """
        sets = check_features(self.name, real=real, synth=synth)
        x, y = sets["real"], sets["synth"]
        index = subject_index(subjects, real=len(x), synth=len(y))
        if bandwidth is None:
            bandwidth = median_bandwidth(x, index["real"])
        _check_bandwidth(bandwidth)
        _check_subjects(index)
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
        """`permutation_p`, with the frozen bandwidth; None is the real set's median."""
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
    interval: IntervalMethod = "studentized"
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
    ) -> KernelDiscrepancy:
        """Compute the kernel matrices once.

        Parameters
        ----------
        real, synth
            Feature matrices, one row an image.
        subjects
            For each role, the subject of each image; None is one image a subject.

        Raises
        ------
        MetricError
            The features are unusable, or a role has fewer than two subjects.
        """
        sets = check_features(self.name, real=real, synth=synth)
        x, y = sets["real"], sets["synth"]
        index = subject_index(subjects, real=len(x), synth=len(y))
        _check_subjects(index)
        return KernelDiscrepancy(
            real=zero_within_subjects(polynomial_kernel(x, x), index["real"]),
            synth=zero_within_subjects(polynomial_kernel(y, y), index["synth"]),
            cross=polynomial_kernel(x, y),
            subjects=index,
        )


class MMDLinear(BaseMetric):
    """Linear-kernel MMD^2 on raw voxels, as MONAI's `MMDMetric`: for comparison with papers."""

    name = "mmd_linear"
    label = "linear MMD² (voxels)"
    role: Role = "for_papers"
    formula = "U-statistic; -|a-b|^2 / 2 over all voxels, which gives the linear kernel's value"
    needs: Needs = "volumes"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    pairs = True
    needs_cross = True
    sees = "differences between the mean volumes, in squared intensities summed over voxels"
    misses = "everything but the mean: diversity, texture, and copies of one average volume"
    responds_to: tuple[str, ...] = ("noise", "gamma")

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n n"]:
        """Inner products of the volumes of a set, over the full frame.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            Not used: `MMDMetric` has no mask.
        settings
            None are frozen.
        progress
            Called with the volumes read and the reads in all.

        Raises
        ------
        MetricError
            As `voxel_gram`.
        """
        return voxel_gram(volumes, progress=progress)

    def measure_across(
        self,
        real: VolumeSource,
        synth: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n m"]:
        """Inner products of real with synthetic volumes, as `measure`."""
        return voxel_gram(real, synth, progress=progress)

    def prepare(
        self,
        real: Float64[np.ndarray, "n n"],
        synth: Float64[np.ndarray, "m m"],
        *,
        cross: Float64[np.ndarray, "n m"] | None = None,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> KernelDiscrepancy:
        """Turn inner products into distances, and drop pairs within a subject.

        Parameters
        ----------
        real, synth
            Inner products within the two sets, of `measure`.
        cross
            Those between them, of `measure_across`.
        subjects
            For each role, the subject of each image; None is one image a subject.

        Raises
        ------
        MetricError
            A matrix is absent, has another shape or is not finite, or a role has fewer than two
            subjects.
        """
        if cross is None:
            raise MetricError(
                "mmd_linear: cross must hold the inner products of real with synthetic volumes; "
                "found None. Pass measure_across(real, synth, ...)."
            )
        grams = {"real": as_float64(real), "synth": as_float64(synth), "cross": as_float64(cross)}
        _check_grams(grams)
        index = subject_index(subjects, real=len(grams["real"]), synth=len(grams["synth"]))
        _check_subjects(index)
        xx, yy, xy = distance_kernels(grams["real"], grams["synth"], grams["cross"])
        return KernelDiscrepancy(
            real=zero_within_subjects(xx, index["real"]),
            synth=zero_within_subjects(yy, index["synth"]),
            cross=xy,
            subjects=index,
        )


def squared_distances(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """Squared Euclidean distances between the rows of two matrices."""
    # Distances do not depend on the origin; near the data it loses the fewest digits.
    origin = x.mean(axis=0)
    a = x - origin
    # The product of a matrix with itself takes half the time and is exactly symmetric.
    return _squared_distances(a, a if y is x else y - origin)


def gaussian_kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], bandwidth: float
) -> Float64[np.ndarray, "n m"]:
    """exp(-|x_i - y_j|^2 / (2 bandwidth^2)), in [0, 1]: zero where it underflows."""
    kernel = squared_distances(x, y)
    kernel /= -2 * bandwidth**2
    np.exp(kernel, out=kernel)
    return kernel


def polynomial_kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """(x_i . y_j / d + 1)^3, the kernel of KID (Binkowski et al. 2018)."""
    kernel: Float64[np.ndarray, "n m"] = x @ y.T
    kernel /= x.shape[1]
    kernel += 1
    for rows in _row_blocks(kernel):
        kernel[rows] *= kernel[rows] ** 2
    return kernel


def zero_within_subjects(
    pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n n"]:
    """Set the pairs within a subject to zero, in place, and return the matrix."""
    for rows in _row_blocks(pairs):
        pairs[rows][index[rows, None] == index[None, :]] = 0.0
    return pairs


def distance_kernels(
    real: Float64[np.ndarray, "n n"],
    synth: Float64[np.ndarray, "m m"],
    cross: Float64[np.ndarray, "n m"],
) -> tuple[Float64[np.ndarray, "n n"], Float64[np.ndarray, "m m"], Float64[np.ndarray, "n m"]]:
    """Kernel -|a - b|^2 / 2 from inner products a.b, which gives the linear-kernel MMD^2.

    The squares |a|^2 cancel between the terms of the U-statistic where every subject has as many
    images. Under other weights the linear kernel itself depends on the origin, and this one does
    not. Inner products of float32 voxels are right to 1e-16 of their size in float64, so a
    discrepancy of 1e-4 of them keeps 12 digits.
    """
    half_x, half_y = np.diag(real) / 2, np.diag(synth) / 2
    return (
        real - half_x[:, None] - half_x,
        synth - half_y[:, None] - half_y,
        cross - half_x[:, None] - half_y,
    )


def median_bandwidth(real: Float64[np.ndarray, "n d"], subjects: np.ndarray | None = None) -> float:
    """The median heuristic: l^2 is the median squared distance between distinct real images.

    Parameters
    ----------
    real
        Feature matrix of the frozen reference.
    subjects
        The subject of each image; pairs within a subject are left out.

    Returns
    -------
    l, in feature units.

    Raises
    ------
    MetricError
        The features are unusable, all images belong to one subject, or the median is zero.
    """
    x = check_features("median bandwidth", real=real)["real"]
    index = subject_index(None if subjects is None else {"real": subjects}, real=len(x))["real"]
    _check_subjects({"real": index})
    median = float(np.median(_distinct_squared_distances(x, index), overwrite_input=True))
    if median <= ROUNDING**2 * float((x**2).sum(axis=1).max()):
        raise MetricError(
            "median bandwidth: the median distance between distinct real images must be above "
            "zero; found 0, so at least half of the pairs are alike. Look for duplicated volumes "
            "or an extractor whose output is constant, or pass bandwidth=."
        )
    return float(np.sqrt(median))


def mmd2(
    x: Float64[np.ndarray, "n d"],
    y: Float64[np.ndarray, "m d"],
    bandwidth: float | None = None,
) -> float:
    """Unbiased MMD^2 under a Gaussian kernel (Gretton et al. 2012, equation 3).

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


def mmd_linear(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Unbiased MMD^2 under the linear kernel: it sees differences of means only.

    What MONAI's `MMDMetric` computes for sets of equal size.

    Returns
    -------
    The estimate of the squared distance between the means; it may be negative.
    """
    sets = check_features("mmd_linear", real=x, synth=y)
    a, b = sets["real"], sets["synth"]
    # Sums in place of Gram matrices: rows may be whole volumes. The value does not depend on
    # the origin, and near the data it loses the fewest digits.
    origin = (a.mean(axis=0) + b.mean(axis=0)) / 2
    sum_a, own_a = _sum_and_squares(a, origin)
    sum_b, own_b = _sum_and_squares(b, origin)
    n, m = len(a), len(b)
    return float(
        (sum_a @ sum_a - own_a) / (n * (n - 1))
        + (sum_b @ sum_b - own_b) / (m * (m - 1))
        - 2 * (sum_a @ sum_b) / (n * m)
    )


def kid(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Kernel inception distance on whole sets: unbiased MMD^2 under the cubic kernel.

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


def permutation_p(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    bandwidth: float,
    *,
    permutations: int = 1000,
    seed: int,
    subjects: Mapping[str, np.ndarray] | None = None,
    paired: bool = False,
) -> float:
    """Permutation test of equal distributions, with the maximum over five bandwidths.

    U at each of {1/4, 1/2, 1, 2, 4} times `bandwidth` is standardised by its mean and standard
    deviation over the permutations, the observed labelling among them, so that the statistic
    treats all labellings alike and the test is exact. Its largest value is compared:
    p = (1 + #{permuted >= observed}) / (permutations + 1).

    Subjects are permuted whole. A subject is taken to belong to one set only: integer labels
    are counted within each set (0 in both sets means two subjects), other labels are names.

    Where subject i of both sets comes from one source, as two volumes of one seed do, the sets
    are not exchangeable but each pair is: `paired` then swaps the labels within pairs, which
    sees changes far below the spread of a set.

    Parameters
    ----------
    real, synth
        Feature matrices.
    bandwidth
        The kernel's l, in feature units.
    permutations
        Number of random labellings.
    seed
        Seed of the labellings.
    subjects
        For each role, the subject of each image.
    paired
        Whether subject i of the one set and of the other belong together.

    Returns
    -------
    p in [1/(permutations + 1), 1].

    Raises
    ------
    MetricError
        The features or the bandwidth are unusable, `permutations` is below 1, a named subject
        is in both sets, or paired sets have other numbers of subjects.
    """
    sets = check_features("permutation test", real=real, synth=synth)
    _check_bandwidth(bandwidth)
    if permutations < 1:
        raise MetricError(f"permutations must be at least 1; found {permutations}. Use 1000.")
    _check_no_shared_subject(subjects or {})
    index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
    _check_subjects(index)
    n_real = n_subjects(index["real"])
    pooled = np.concatenate([index["real"], n_real + index["synth"]])
    sizes, rng = (n_real, n_subjects(index["synth"])), np.random.default_rng(seed)
    deal = _swapped_labels if paired else _permuted_labels
    labels = deal(*sizes, permutations, rng)[:, pooled]
    rows = np.concatenate([sets["real"], sets["synth"]])
    kernel = zero_within_subjects(
        gaussian_kernel(rows, rows, BANDWIDTH_FACTORS[0] * bandwidth), pooled
    )
    scores = _standardised(_split_discrepancy(kernel, labels, pooled))
    for wider, narrower in pairwise(BANDWIDTH_FACTORS):
        # exp(-s / (2 (l/r)^2)) = exp(-s / (2 l^2))^(r^2): distances need not be kept beside it.
        np.power(kernel, (wider / narrower) ** 2, out=kernel)
        scores = np.maximum(scores, _standardised(_split_discrepancy(kernel, labels, pooled)))
    # Labellings that tie with the observed one count, whatever their last digit.
    at_least = int((scores[1:] >= scores[0] - ROUNDING * max(1.0, abs(scores[0]))).sum())
    return (1 + at_least) / (permutations + 1)


def _permuted_labels(
    n: int, m: int, permutations: int, rng: np.random.Generator
) -> Float64[np.ndarray, "b s"]:
    """Indicators of the subjects labelled real; the first row is the observed labelling."""
    observed = (np.arange(n + m) < n).astype(np.float64)
    return np.vstack([observed, rng.permuted(np.tile(observed, (permutations, 1)), axis=1)])


def _swapped_labels(
    n: int, m: int, permutations: int, rng: np.random.Generator
) -> Float64[np.ndarray, "b s"]:
    """As `_permuted_labels`, of pairs: a coin for each says whether its labels change places."""
    if n != m:
        raise MetricError(
            f"paired permutation test: both sets need as many subjects; found {n} and {m}. "
            "Leave out those without a partner."
        )
    coins = np.vstack([np.zeros((1, n)), rng.integers(2, size=(permutations, n))])
    return np.hstack([1 - coins, coins])


def _split_discrepancy(
    kernel: Float64[np.ndarray, "k k"],
    labels: Float64[np.ndarray, "b k"],
    index: Int64[np.ndarray, " k"],
) -> Float64[np.ndarray, " b"]:
    """MMD^2 between the two sides of each labelling of the pooled images."""
    other = 1 - labels
    # One product for all three terms: both sides' row sums add up to those of the matrix.
    to_labelled = labels @ kernel
    to_other = kernel.sum(axis=0) - to_labelled
    within = ratio(
        (to_labelled * labels).sum(axis=1), (labels * _weight_of_others(labels, index)).sum(axis=1)
    ) + ratio((to_other * other).sum(axis=1), (other * _weight_of_others(other, index)).sum(axis=1))
    across = ratio((to_labelled * other).sum(axis=1), labels.sum(axis=1) * other.sum(axis=1))
    u: Float64[np.ndarray, " b"] = within - 2 * across
    return u


def _standardised(values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Centre and scale; a bandwidth under which nothing moves says nothing, and gives zeros."""
    sd = values.std()
    if sd <= ROUNDING:
        return np.zeros_like(values)
    scores: Float64[np.ndarray, " b"] = (values - values.mean()) / sd
    return scores


def _contributions(means: _RowMeans) -> dict[str, Float64[np.ndarray, "b n"]]:
    return {role: 2 * (within - across) for role, (within, across) in means.items()}


def _weight_of_others(
    w: Float64[np.ndarray, "b n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "b n"]:
    """For each image, the weight of all images of other subjects."""
    others: Float64[np.ndarray, "b n"] = (
        w.sum(axis=1, keepdims=True) - subject_sums(w, index)[:, index]
    )
    return others


def _mean(
    values: Float64[np.ndarray, "b n"], w: Float64[np.ndarray, "b n"]
) -> Float64[np.ndarray, " b"]:
    return ratio((values * w).sum(axis=1), w.sum(axis=1))


def _squared_distances(
    a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """Squared distances of rows near the origin."""
    squares: Float64[np.ndarray, "n m"] = a @ b.T
    squares *= -2
    squares += np.einsum("ij,ij->i", a, a)[:, None]
    squares += np.einsum("ij,ij->i", b, b)
    np.maximum(squares, 0.0, out=squares)
    return squares


def _distinct_squared_distances(
    x: Float64[np.ndarray, "n d"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " p"]:
    """Squared distances of all pairs of images of distinct subjects, each pair once."""
    centred = x - x.mean(axis=0)
    n = len(x)
    distances = np.empty(n * (n - 1) // 2)
    step, filled = _rows_a_block(n), 0
    for start in range(0, n, step):
        rows = slice(start, start + step)
        squares = _squared_distances(centred[rows], centred[start:])
        distinct = index[rows, None] != index[None, start:]
        found = squares[np.triu(distinct, k=1)]
        distances[filled : filled + len(found)] = found
        filled += len(found)
    return distances[:filled]


def _rows_a_block(columns: int) -> int:
    return max(1, BLOCK_NUMBERS // columns)


def _row_blocks(matrix: Float64[np.ndarray, "n m"]) -> Iterator[slice]:
    step = _rows_a_block(matrix.shape[1])
    for start in range(0, len(matrix), step):
        yield slice(start, start + step)


def _check_grams(grams: Mapping[str, Float64[np.ndarray, "_ _"]]) -> None:
    found = ", ".join(f"{name} {'x'.join(map(str, g.shape))}" for name, g in grams.items())
    n, m = len(grams["real"]), len(grams["synth"])
    shapes = {"real": (n, n), "synth": (m, m), "cross": (n, m)}
    if min(n, m) < 2 or any(grams[name].shape != shape for name, shape in shapes.items()):
        raise MetricError(
            "mmd_linear: inner products must be matrices n x n (real), m x m (synth) and n x m "
            f"(cross) of at least 2 images each; found {found}. Use measure and measure_across."
        )
    for name, gram in grams.items():
        if not np.isfinite(gram).all():
            raise MetricError(
                f"mmd_linear: the inner products of {name} hold NaN or infinity. "
                "Use measure and measure_across, which name the volume."
            )


def _sum_and_squares(
    rows: Float64[np.ndarray, "n d"], origin: Float64[np.ndarray, " d"]
) -> tuple[Float64[np.ndarray, " d"], float]:
    """The sum of the rows and the sum of their squared norms, taken from `origin`."""
    total, squares = np.zeros_like(origin), 0.0
    for row in rows:
        moved = row - origin
        total += moved
        squares += float(moved @ moved)
    return total, squares


def _check_bandwidth(bandwidth: float) -> None:
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise MetricError(
            f"bandwidth must be a positive number of feature units; found {bandwidth}. "
            "Use median_bandwidth(real)."
        )


def _check_subjects(index: Mapping[str, Int64[np.ndarray, " n"]]) -> None:
    for role, subjects in index.items():
        if n_subjects(subjects) < 2:
            raise MetricError(
                f"{role} needs images of at least 2 subjects; found 1 subject with "
                f"{len(subjects)} images. Add subjects: scans of one are no independent sample."
            )


def _check_no_shared_subject(subjects: Mapping[str, np.ndarray]) -> None:
    names = [np.asarray(labels) for labels in subjects.values()]
    if len(names) < 2 or any(np.issubdtype(labels.dtype, np.integer) for labels in names):
        return
    shared = sorted(set(names[0].tolist()) & set(names[1].tolist()))
    if shared:
        raise MetricError(
            f"permutation test: a subject must be in one set only; found {len(shared)} in both "
            f"(first: {shared[0]!r}). Remove them from one set: paired sets are not exchangeable."
        )
