"""Weighted means over images and over pairs of images, and the variance of such means.

Weights are counts, indicators or ones. Pairs of images of one subject are never counted, and
variances are those of a mean over subjects.

References
----------
Hoeffding, "A class of statistics with asymptotically normal distribution", Ann. Math. Stat. 19
(1948). Blom, "Some properties of incomplete U-statistics", Biometrika 63 (1976).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.subjects import n_subjects


def subject_sums(
    values: Float64[np.ndarray, "b n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "b s"]:
    """Sum the images' values within each subject."""
    if np.array_equal(index, np.arange(len(index))):
        return values
    # Subjects are numbered without gaps, so each has a place where its images start.
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(n_subjects(index)))
    sums: Float64[np.ndarray, "b s"] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


# Means over images and over pairs of images, and the variance of such means


def ratio(
    numerator: Float64[np.ndarray, "*shape"], denominator: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Divide, and give NaN (undefined) where the denominator is not positive."""
    top, bottom = np.broadcast_arrays(numerator, denominator)
    quotient: Float64[np.ndarray, "*shape"] = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient


def distinct_pairs(
    pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n n"]:
    """A copy of a symmetric pair matrix with the pairs within a subject set to zero."""
    return np.where(index[:, None] == index[None, :], 0.0, pairs)


def pair_design(
    index: Int64[np.ndarray, " n"], partners: int, *, seed: int
) -> Bool[np.ndarray, "n n"]:
    """Choose pairs of images at random so that each image is in equally many.

    A circulant design on a random order of the subjects, the images of one subject side by
    side: with c the largest number of images of a subject, the image at place i is paired with
    those c, c + 1, ... places before and after it, which are images of other subjects. An odd
    number of partners adds the pairs half the circle apart.

    Parameters
    ----------
    index
        The subject of each image.
    partners
        The number of pairs that each image is in. Where both it and the number of images are
        odd, one image is in one pair fewer.
    seed
        Seed of the order.

    Returns
    -------
    Symmetric; False on the diagonal and within a subject.

    Raises
    ------
    MetricError
        `partners` is below 1, or above what the design has room for: n - 1, or n - 2 c + 1.

    Examples
    --------
    >>> design = pair_design(np.arange(6), 4, seed=0)
    >>> design.sum(axis=0)
    array([4, 4, 4, 4, 4, 4])
    """
    n = len(index)
    widest = int(np.bincount(index).max())
    room = n - 2 * widest + 1
    if not 1 <= partners <= room:
        raise MetricError(
            f"pair design: partners must lie between 1 and {room} for {n} images, at most "
            f"{widest} of a subject; found {partners}. Use fewer, or all pairs."
        )
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(n)
    order = shuffled[np.argsort(rng.permutation(n_subjects(index))[index[shuffled]], kind="stable")]
    place = np.arange(n)
    design = np.zeros((n, n), dtype=np.bool_)
    for distance in range(widest, widest + partners // 2):
        design[order, order[(place + distance) % n]] = True
    if partners % 2:
        half = n // 2
        design[order[:half], order[half : 2 * half]] = True
    return design | design.T


def within_mean(
    pairs: Float64[np.ndarray, "n n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
    design: Bool[np.ndarray, "n n"] | None = None,
) -> Float64[np.ndarray, " b"]:
    """Weighted mean over pairs of distinct subjects, an order-2 U-statistic.

    w' K0 w / (n^2 - sum over subjects of W_s^2), with n the sum of w and W_s its sum within a
    subject: counts as weights give the mean over the repeated rows without pairs of copies.
    Over some pairs only, with A their design, w' (A * K) w / (w' A w): an incomplete U-statistic
    (Blom 1976).

    Parameters
    ----------
    pairs
        K0, from `distinct_pairs`; with a design, what it leaves out is never read.
    w
        Non-negative weights.
    index
        The subject of each image.
    design
        Which pairs count, from `pair_design`; None is all pairs of distinct subjects.

    Returns
    -------
    The mean under each row of weights, NaN where no pair has weight.
    """
    if design is not None:
        chosen = np.where(design, pairs, 0.0)
        return ratio(((w @ chosen) * w).sum(axis=1), ((w @ design) * w).sum(axis=1))
    pair_weight = w.sum(axis=1) ** 2 - (subject_sums(w, index) ** 2).sum(axis=1)
    return ratio(((w @ pairs) * w).sum(axis=1), pair_weight)


def within_row_means(
    pairs: Float64[np.ndarray, "n n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
    design: Bool[np.ndarray, "n n"] | None = None,
) -> Float64[np.ndarray, "b n"]:
    """Each image's weighted mean over the images of other subjects, (K0 w)_i / (n - W_s(i)).

    With a design A, over its partners: g_i = ((A * K) w)_i / (A w)_i, or the mean over all
    pairs for an image that no partner with weight is left to.

    Then 4 var(g)/n is a conservative variance of `within_mean`. For one image per subject and p
    partners each, write K_ij = theta + a_i + a_j + e_ij (Hoeffding 1948): the mean over the
    design varies by 4 var(a)/n + 2 var(e)/(n p), whereas the partners' a and e that are left in
    each g_i bring 4 var(g)/n to 4 var(a)/n + 4 (var(a) + var(e))/(n p), up to a factor of
    1 + O(1/n). The excess is the variance of one pair's value over the number of pairs.
    """
    if design is not None:
        partners = w @ design
        means = ratio(w @ np.where(design, pairs, 0.0), partners)
        overall = within_mean(pairs, w, index, design)
        return np.where(partners > 0, means, overall[:, None])
    others = w.sum(axis=1, keepdims=True) - subject_sums(w, index)[:, index]
    return ratio(w @ pairs, others)


def between_mean(
    pairs: Float64[np.ndarray, "n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Weighted mean over pairs across two sets, w' K v / (n m)."""
    return ratio(((w @ pairs) * v).sum(axis=1), w.sum(axis=1) * v.sum(axis=1))


def between_row_means(
    pairs: Float64[np.ndarray, "n m"], v: Float64[np.ndarray, "b m"]
) -> Float64[np.ndarray, "b n"]:
    """Each row's weighted mean over the columns, (K v)_i / m."""
    return ratio(v @ pairs.T, v.sum(axis=1, keepdims=True))


def variance_of_mean(
    values: Float64[np.ndarray, "b n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, " b"]:
    """Estimated variance of a weighted mean of images' values, by subjects.

    With z_s = sum_i in s of w_i (g_i - mean g), c_s the weight of an image of subject s and
    N the sum of c_s: V = N/(N - 1) sum_s z_s^2 / c_s / n^2. With one image per subject this is
    the sample variance (divisor n - 1) over n.

    Returns
    -------
    V under each row of weights, NaN where the counts of subjects sum to one or less.
    """
    n = w.sum(axis=1, keepdims=True)
    weighted = w > 0
    # A value that no weight reaches may be undefined, and must not reach the sum as 0 * NaN.
    g = np.where(weighted, values, 0.0)
    deviations = w * (g - ratio((w * g).sum(axis=1, keepdims=True), n))
    totals = subject_sums(deviations, index)
    sums = subject_sums(w, index)
    # Equals the weight itself where a subject's images share one, as in every resample.
    multiplicity = np.divide(
        subject_sums(w**2, index), sums, out=np.zeros_like(sums), where=sums > 0
    )
    squares = np.divide(totals**2, multiplicity, out=np.zeros_like(sums), where=sums > 0)
    count = multiplicity.sum(axis=1)
    return ratio(count * squares.sum(axis=1), (count - 1) * n[:, 0] ** 2)
