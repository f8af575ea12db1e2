"""Mean similarity within and between sets, as statistics of weights over images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import (
    between_mean,
    between_row_means,
    distinct_pairs,
    pair_design,
    ratio,
    variance_of_mean,
    within_mean,
    within_row_means,
)
from synthbench.metrics.metric import Part, Weights

PAIR_BUDGET = 50_000
"""The number of pairs of a set, or between two sets, up to which all of them are computed."""

DESIGN_SEED = 0
"""Seed of the pairs that are computed where there are more than `PAIR_BUDGET`."""

MIN_PARTNERS = 4
"""Each image must be in at least this many of the pairs that a design computes."""


@dataclass(frozen=True)
class MeanSimilarity:
    """Mean similarity over pairs within one set: high where the set has little diversity.

    Attributes
    ----------
    pairs
        Pair matrix, zero for pairs within a subject.
    role
        The role of the set; its weights are used.
    subjects
        For that role, the subject index of each image.
    design
        True for the pairs that were computed; None is all of them.
    """

    pairs: Float64[np.ndarray, "n n"]
    role: str
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    design: Bool[np.ndarray, "n n"] | None = None

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The U-statistic w' S0 w / (n^2 - sum over subjects of (sum of their w)^2).

        With a design, the weighted mean over its pairs (`within_mean`).
        """
        index = self.subjects[self.role]
        return within_mean(self.pairs, weights[self.role], index, self.design)

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The variance V = 4 var(g)/n, with g_i the mean similarity of image i to the others.

        With a design, g_i is the mean over the partners of image i. V then includes the choice of
        pairs and is conservative (`within_row_means` derives this).
        """
        w, index = weights[self.role], self.subjects[self.role]
        return variance_of_mean(self.contributions(weights)[self.role], w, index)

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image, 2 g_i."""
        index = self.subjects[self.role]
        return {self.role: 2 * within_row_means(self.pairs, weights[self.role], index, self.design)}


@dataclass(frozen=True)
class CrossSimilarity:
    """Mean similarity over pairs of a real and a synthetic image.

    Attributes
    ----------
    pairs
        Pair matrix of real rows and synthetic columns, zero for those not computed.
    subjects
        For each role, the subject index of each image.
    design
        True for the pairs that were computed; None is all of them.
    """

    pairs: Float64[np.ndarray, "n m"]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    design: Bool[np.ndarray, "n m"] | None = None

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The mean w' S v / (n m); with a design A, w' (A * S) v / (w' A v)."""
        w, v = weights["real"], weights["synth"]
        if self.design is None:
            return between_mean(self.pairs, w, v)
        return ratio(((w @ self.pairs) * v).sum(axis=1), ((w @ self.design) * v).sum(axis=1))

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The variance V = var(row means)/n + var(column means)/m, without a factor of 4.

        The factor belongs to pairs within one set; here each image is in one position of a pair.
        With a design, the means are over an image's partners and vary with the choice of them. V
        then includes the choice of pairs and is conservative.
        """
        total = np.zeros(len(weights["real"]))
        for role, means in self.contributions(weights).items():
            total += variance_of_mean(means, weights[role], self.subjects[role])
        return total

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image: its mean similarity to the other set's images."""
        w, v = weights["real"], weights["synth"]
        if self.design is None:
            return {
                "real": between_row_means(self.pairs, v),
                "synth": between_row_means(self.pairs.T, w),
            }
        overall = self.value(weights)[:, None]
        rows, columns = v @ self.design.T, w @ self.design
        return {
            "real": np.where(rows > 0, ratio(v @ self.pairs.T, rows), overall),
            "synth": np.where(columns > 0, ratio(w @ self.pairs, columns), overall),
        }


@dataclass(frozen=True)
class SimilarityGap:
    """Mean similarity within the synthetic set minus that within the real one.

    Zero is best. Above zero the synthetic set is less diverse than the real one, below zero more.
    """

    real: MeanSimilarity
    synth: MeanSimilarity
    cross: CrossSimilarity | None = None

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, of both roles."""
        return {**self.real.subjects, **self.synth.subjects}

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The synthetic mean minus the real mean, in [-1, 1]."""
        gap: Float64[np.ndarray, " b"] = self.synth.value(weights) - self.real.value(weights)
        return gap

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the absolute values of the two means."""
        terms: Float64[np.ndarray, " b"] = np.abs(self.synth.value(weights)) + np.abs(
            self.real.value(weights)
        )
        return terms

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the two variances: the sets are independent."""
        total: Float64[np.ndarray, " b"] = self.synth.variance(weights) + self.real.variance(
            weights
        )
        return total

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image: -2 g_i for real ones, 2 g_j for synthetic ones."""
        return {
            "real": -self.real.contributions(weights)["real"],
            "synth": self.synth.contributions(weights)["synth"],
        }

    def parts(self) -> dict[str, Part]:
        """The means within the two sets, and the mean between the sets where it was computed."""
        parts = {
            "synth": Part("MS-SSIM synth", self.synth, tabled=True),
            "real": Part("MS-SSIM real", self.real, tabled=True),
        }
        if self.cross is not None:
            parts["cross"] = Part("MS-SSIM real x synth", self.cross)
        return parts


def cross_design(n: int, m: int, partners: int, *, seed: int) -> Bool[np.ndarray, "n m"]:
    """Choose random pairs between two sets, with the images of a set in equally many pairs.

    Rows and columns are put in random orders. Each row in turn takes the next `partners` columns;
    after the last column comes the first again. So each row is in `partners` pairs, and each
    column in n partners / m of them, rounded up or down.

    Parameters
    ----------
    n, m
        The numbers of images.
    partners
        The number of pairs that each row is in.
    seed
        Seed of the orders.

    Raises
    ------
    MetricError
        `partners` lies outside 1 to m.

    Examples
    --------
    >>> design = cross_design(4, 6, 3, seed=0)
    >>> design.sum(axis=0), design.sum(axis=1)
    (array([2, 2, 2, 2, 2, 2]), array([3, 3, 3, 3]))
    """
    if not 1 <= partners <= m:
        raise MetricError(
            f"MS-SSIM: partners must lie between 1 and the {m} columns; found {partners}. "
            "Use fewer, or all pairs."
        )
    rng = np.random.default_rng(seed)
    turns = np.arange(n * partners)
    design = np.zeros((n, m), dtype=np.bool_)
    design[rng.permutation(n)[turns // partners], rng.permutation(m)[turns % m]] = True
    return design


def mean_similarity(
    metric: str, role: str, pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> MeanSimilarity:
    """Return the mean over a set's pairs, from a matrix with NaN for pairs not computed.

    Parameters
    ----------
    metric, role
        The names of the metric and of the set in error messages.
    pairs
        A symmetric pair matrix.
    index
        The subject of each image.

    Raises
    ------
    MetricError
        The matrix is not square, smaller than 2 x 2, asymmetric, infinite, or holds too few
        pairs of an image.
    """
    matrix = np.asarray(pairs, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise MetricError(
            f"{metric}: {role} must be a square matrix of pairs of at least 2 images; "
            f"found shape {matrix.shape}. Compute the pairs of a set of volumes."
        )
    if np.isinf(matrix).any() or not np.allclose(matrix, matrix.T, equal_nan=True):
        raise MetricError(
            f"{metric}: the pair matrix of {role} must be finite and symmetric; it is not. "
            "Compute the pairs within one set, without others."
        )
    distinct = index[:, None] != index[None, :]
    computed = computed_pairs(metric, f"of {role}", matrix, needed=distinct)
    pairs_of_subjects = distinct_pairs(np.nan_to_num(matrix, nan=0.0), index)
    return MeanSimilarity(pairs_of_subjects, role, {role: index}, computed)


def computed_pairs(
    metric: str, which: str, matrix: Float64[np.ndarray, "n m"], needed: Bool[np.ndarray, "n m"]
) -> Bool[np.ndarray, "n m"] | None:
    """Return True for each needed pair that was computed; None where all of them were.

    Raises
    ------
    MetricError
        An image is in fewer than `MIN_PARTNERS` of the computed pairs.
    """
    computed: Bool[np.ndarray, "n m"] = needed & ~np.isnan(matrix)
    if np.array_equal(computed, needed):
        return None
    fewest = int(min(computed.sum(axis=0).min(), computed.sum(axis=1).min()))
    if fewest < MIN_PARTNERS:
        raise MetricError(
            f"{metric}: the pair matrix {which} must hold at least {MIN_PARTNERS} finite "
            f"pairs of each image; found {fewest} of one, and NaN for "
            f"{int((needed & ~computed).sum())} of {int(needed.sum())} entries. "
            "Use a design of more pairs, or none.",
            "too many images",
            needed=MIN_PARTNERS,
            found=fewest,
        )
    return computed


def affordable_design(n: int) -> Bool[np.ndarray, "n n"] | None:
    """Return a design of about `PAIR_BUDGET` pairs of n volumes; None where that is all pairs."""
    if n * (n - 1) // 2 <= PAIR_BUDGET:
        return None
    partners = 2 * PAIR_BUDGET // n
    _check_partners(partners, f"{n} volumes")
    return pair_design(np.arange(n), partners, seed=DESIGN_SEED)


def affordable_cross_design(n: int, m: int) -> Bool[np.ndarray, "n m"] | None:
    """Return a design of about `PAIR_BUDGET` pairs between two sets; None where that is all."""
    if n * m <= PAIR_BUDGET:
        return None
    partners = PAIR_BUDGET // n
    _check_partners(min(partners, n * partners // m), f"{n} real by {m} synthetic volumes")
    return cross_design(n, m, partners, seed=DESIGN_SEED)


def _check_partners(fewest: int, found: str) -> None:
    if fewest < MIN_PARTNERS:
        raise MetricError(
            f"MS-SSIM: each image must be in at least {MIN_PARTNERS} of the {PAIR_BUDGET} pairs "
            f"that are computed; found {found}, which leaves {fewest}. Score fewer volumes.",
            "too many images",
            needed=MIN_PARTNERS,
            found=fewest,
        )
