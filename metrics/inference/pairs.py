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
    """Return the sum of the images' values within each subject."""
    if np.array_equal(index, np.arange(len(index))):
        return values
    # reduceat needs the start of each subject's images; subjects are numbered without gaps.
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(n_subjects(index)))
    sums: Float64[np.ndarray, "b s"] = np.add.reduceat(values[:, order], starts, axis=1)
    return sums


def ratio(
    numerator: Float64[np.ndarray, "*shape"], denominator: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Return numerator / denominator, NaN (undefined) where the denominator is not positive."""
    top, bottom = np.broadcast_arrays(numerator, denominator)
    quotient: Float64[np.ndarray, "*shape"] = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient


def distinct_pairs(
    pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n n"]:
    """Return a copy of a symmetric pair matrix with the pairs within a subject set to zero."""
    return np.where(index[:, None] == index[None, :], 0.0, pairs)


def pair_design(
    index: Int64[np.ndarray, " n"], partners: int, *, seed: int
) -> Bool[np.ndarray, "n n"]:
    """Choose random pairs of images, with each image in equally many.

    The design is circulant: the images stand in a circle, subjects in a random order and the
    images of a subject next to each other. With c the largest number of images of a subject, each
    image is paired with the images c, c + 1, ... places before and after it, which belong to other
    subjects. An odd number of partners adds the image on the opposite side of the circle.

    Parameters
    ----------
    index
        The subject of each image.
    partners
        The number of pairs that each image is in. Where this number and the number of images are
        odd, one image is in one pair fewer.
    seed
        Seed of the order.

    Returns
    -------
    A symmetric matrix, True for the chosen pairs; False on the diagonal and within a subject.

    Raises
    ------
    MetricError
        `partners` is below 1 or above n - 2 c + 1, which is n - 1 with one image per subject.

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
            f"{widest} of one subject; found {partners}. Use fewer, or all pairs."
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
    """Return the weighted mean over pairs of distinct subjects, an order-2 U-statistic.

    The mean is w' K0 w / (n^2 - sum over subjects of W_s^2), with n the sum of w and W_s its sum
    within a subject. So counts as weights give the mean over the repeated rows without pairs of
    copies. Over the pairs of a design A it is w' (A * K) w / (w' A w), an incomplete U-statistic
    (Blom 1976).

    Parameters
    ----------
    pairs
        K0, from `distinct_pairs`; with a design, values of other pairs are never read.
    w
        Non-negative weights.
    index
        The subject of each image.
    design
        The pairs that count, from `pair_design`; None is all pairs of distinct subjects.

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
    """Return each image's weighted mean over the images of other subjects, (K0 w)_i / (n - W_s(i)).

    With a design A, the mean is over an image's partners: g_i = ((A * K) w)_i / (A w)_i. An image
    whose partners all have weight zero gets the mean over all pairs.

    Then 4 var(g)/n is a conservative variance of `within_mean`. For one image per subject and p
    partners each, write K_ij = theta + a_i + a_j + e_ij (Hoeffding 1948). The variance of the mean
    over the design is 4 var(a)/n + 2 var(e)/(n p). Each g_i also contains the mean of its
    partners' a and e, so 4 var(g)/n is 4 var(a)/n + 4 (var(a) + var(e))/(n p), up to a factor of
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
    """Return the weighted mean over pairs of both sets, w' K v / (n m)."""
    return ratio(((w @ pairs) * v).sum(axis=1), w.sum(axis=1) * v.sum(axis=1))


def between_row_means(
    pairs: Float64[np.ndarray, "n m"], v: Float64[np.ndarray, "b m"]
) -> Float64[np.ndarray, "b n"]:
    """Return each row's weighted mean over the columns, (K v)_i / m."""
    return ratio(v @ pairs.T, v.sum(axis=1, keepdims=True))


def variance_of_mean(
    values: Float64[np.ndarray, "b n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, " b"]:
    """Return the estimated variance of a weighted mean of images' values, by subjects.

    With z_s the sum over the images i of subject s of w_i (g_i - mean g), c_s the weight of an
    image of subject s, n the sum of w and N the sum of c_s: V = N/(N - 1) sum_s z_s^2 / c_s / n^2.
    With one image per subject this is the sample variance (divisor n - 1) over n.

    Returns
    -------
    V under each row of weights, NaN where the counts of subjects sum to one or less.
    """
    n = w.sum(axis=1, keepdims=True)
    weighted = w > 0
    # A value without weight may be undefined, and 0 * NaN would make the sum NaN.
    g = np.where(weighted, values, 0.0)
    deviations = w * (g - ratio((w * g).sum(axis=1, keepdims=True), n))
    totals = subject_sums(deviations, index)
    sums = subject_sums(w, index)
    # The images of a subject usually have one weight, as in every resample; it is then c_s.
    multiplicity = np.divide(
        subject_sums(w**2, index), sums, out=np.zeros_like(sums), where=sums > 0
    )
    squares = np.divide(totals**2, multiplicity, out=np.zeros_like(sums), where=sums > 0)
    count = multiplicity.sum(axis=1)
    return ratio(count * squares.sum(axis=1), (count - 1) * n[:, 0] ** 2)
