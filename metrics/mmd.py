"""Maximum mean discrepancy: unbiased estimates, and a permutation test.

References
----------
Gretton et al., "A kernel two-sample test", JMLR 13 (2012): equation 3 is the U-statistic.
Binkowski et al., "Demystifying MMD GANs", ICLR 2018: the polynomial kernel of KID.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    between_mean,
    between_row_means,
    distinct_pairs,
    estimate,
    n_subjects,
    subject_index,
    variance_of_mean,
    within_mean,
    within_row_means,
)
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Target,
    Weights,
    check_features,
)

BANDWIDTH_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Multiples of the bandwidth over which the permutation test takes its maximum."""

ROUNDING = 1e-12
"""Relative size below which a difference is rounding."""


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

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n + 4 var(h)/m, the variance of the U-statistic's first-order term."""
        w, v = weights["real"], weights["synth"]
        real, synth = self.subjects["real"], self.subjects["synth"]
        g = within_row_means(self.real, w, real) - between_row_means(self.cross, v)
        h = within_row_means(self.synth, v, synth) - between_row_means(self.cross.T, w)
        variance: Float64[np.ndarray, " b"] = 4 * (
            variance_of_mean(g, w, real) + variance_of_mean(h, v, synth)
        )
        return variance


class MMD2(BaseMetric):
    """Squared maximum mean discrepancy under a Gaussian (RBF) kernel; unbiased, may be negative."""

    name = "mmd2"
    label = "MMD² (RBF)"
    formula = "U-statistic; exp(-|a-b|^2 / (2 l^2)); l^2 = median |a-b|^2 over distinct real pairs"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    sees = "any difference between the two feature distributions, at the scale of the bandwidth"
    misses = "differences far below or above that scale, and whatever the extractor discards"

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
    ) -> KernelDiscrepancy:
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
        return KernelDiscrepancy(
            real=distinct_pairs(gaussian_kernel(x, x, bandwidth), index["real"]),
            synth=distinct_pairs(gaussian_kernel(y, y, bandwidth), index["synth"]),
            cross=gaussian_kernel(x, y, bandwidth),
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


def squared_distances(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """Squared Euclidean distances between the rows of two matrices."""
    # Distances do not depend on the origin; near the data it loses the fewest digits.
    origin = x.mean(axis=0)
    a, b = x - origin, y - origin
    squares: Float64[np.ndarray, "n m"] = (
        (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * (a @ b.T)
    )
    return squares.clip(min=0.0)


def gaussian_kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], bandwidth: float
) -> Float64[np.ndarray, "n m"]:
    """exp(-|x_i - y_j|^2 / (2 bandwidth^2)), in (0, 1]."""
    return np.exp(-squared_distances(x, y) / (2 * bandwidth**2))


def polynomial_kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """(x_i . y_j / d + 1)^3, the kernel of KID (Binkowski et al. 2018)."""
    kernel: Float64[np.ndarray, "n m"] = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


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
    first, second = np.triu_indices(len(x), k=1)
    distinct = index[first] != index[second]
    median = float(np.median(squared_distances(x, x)[first[distinct], second[distinct]]))
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
    """Kernel inception distance on whole sets: unbiased MMD^2 under the cubic kernel."""
    sets = check_features("kid", real=x, synth=y)
    a, b = sets["real"], sets["synth"]
    index = subject_index(None, real=len(a), synth=len(b))
    return estimate(
        KernelDiscrepancy(
            real=distinct_pairs(polynomial_kernel(a, a), index["real"]),
            synth=distinct_pairs(polynomial_kernel(b, b), index["synth"]),
            cross=polynomial_kernel(a, b),
            subjects=index,
        )
    )


def permutation_p(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    bandwidth: float,
    *,
    permutations: int = 1000,
    seed: int,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> float:
    """Permutation test of equal distributions, with the maximum over five bandwidths.

    U at each of {1/4, 1/2, 1, 2, 4} times `bandwidth` is standardised by its mean and standard
    deviation over the permutations, the observed labelling among them, so that the statistic
    treats all labellings alike and the test is exact. Its largest value is compared:
    p = (1 + #{permuted >= observed}) / (permutations + 1).

    Subjects are permuted whole. A subject is taken to belong to one set only: integer labels
    are counted within each set (0 in both sets means two subjects), other labels are names.

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

    Returns
    -------
    p in [1/(permutations + 1), 1].

    Raises
    ------
    MetricError
        The features or the bandwidth are unusable, `permutations` is below 1, or a named
        subject is in both sets.
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
    labels = _permuted_labels(
        n_real, n_subjects(index["synth"]), permutations, np.random.default_rng(seed)
    )[:, pooled]
    rows = np.concatenate([sets["real"], sets["synth"]])
    squares = squared_distances(rows, rows)
    scores = np.full(permutations + 1, -np.inf)
    for factor in BANDWIDTH_FACTORS:
        kernel = distinct_pairs(np.exp(-squares / (2 * (factor * bandwidth) ** 2)), pooled)
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


def _split_discrepancy(
    kernel: Float64[np.ndarray, "k k"],
    labels: Float64[np.ndarray, "b k"],
    index: Int64[np.ndarray, " k"],
) -> Float64[np.ndarray, " b"]:
    """MMD^2 between the two sides of each labelling of the pooled images."""
    other = 1 - labels
    u: Float64[np.ndarray, " b"] = (
        within_mean(kernel, labels, index)
        + within_mean(kernel, other, index)
        - 2 * between_mean(kernel, labels, other)
    )
    return u


def _standardised(values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Centre and scale; a bandwidth under which nothing moves says nothing, and gives zeros."""
    sd = values.std()
    if sd <= ROUNDING:
        return np.zeros_like(values)
    scores: Float64[np.ndarray, " b"] = (values - values.mean()) / sd
    return scores


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
