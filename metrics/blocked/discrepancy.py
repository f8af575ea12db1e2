"""MMD^2 of two large sets: kernel sums over blocks of rows, which are never all in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.metrics.inference.pairs import ratio, subject_sums, variance_of_mean
from synthbench.metrics.inference.resampling import GROUP_ROWS
from synthbench.metrics.kernels import blocks_of_subjects, subject_means
from synthbench.metrics.metric import Weights, ones
from synthbench.metrics.subjects import n_subjects

Kernel = Callable[[Float64[np.ndarray, "k d"], Float64[np.ndarray, "l d"]], np.ndarray]
"""A function of two matrices of rows to the matrix of their kernel."""


class Sums(NamedTuple):
    """What one pass over all blocks gives, under each row of weights.

    Attributes
    ----------
    within_real, within_synth, across
        The three mean kernels.
    terms
        For each role, each image's mean kernel with its own set minus that with the other set.
    """

    within_real: Float64[np.ndarray, " b"]
    within_synth: Float64[np.ndarray, " b"]
    across: Float64[np.ndarray, " b"]
    terms: Mapping[str, Float64[np.ndarray, "b n"]]


class MeanKernels(ABC):
    """What follows from the three mean kernels of MMD^2, however they are computed."""

    @abstractmethod
    def mean_kernels(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The mean kernel within the real set, within the synthetic set, and between them."""

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted U-statistic: pairs of one subject, and so of one image, are left out."""
        within_real, within_synth, across = self.mean_kernels(weights)
        u: Float64[np.ndarray, " b"] = within_real + within_synth - 2 * across
        return u

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum |A| + |B| + 2 |C| of the three mean kernels in MMD^2 = A + B - 2 C."""
        a, b, c = (np.abs(mean) for mean in self.mean_kernels(weights))
        terms: Float64[np.ndarray, " b"] = a + b + 2 * c
        return terms


@dataclass(frozen=True)
class BlockedDiscrepancy(MeanKernels):
    """MMD^2 of two sets as a function of weights, from their rows.

    Its numbers are those of `synthbench.metrics.mmd.KernelDiscrepancy`, up to rounding. A call
    computes all kernels once, a block of rows at a time, and multiplies each block with all rows
    of weights: time O((n + m)^2 (d + b)), memory O((n + m) (d + b)) beside one block.

    Attributes
    ----------
    real, synth
        One row per image: features, centred where the kernel allows it.
    kernel
        The kernel between rows.
    subjects
        For each role, the subject index of each image.
    """

    real: Float64[np.ndarray, "n d"]
    synth: Float64[np.ndarray, "m d"]
    kernel: Kernel
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    @property
    def numbers_per_row(self) -> int:
        """The weights and the terms of both sets."""
        return 2 * (len(self.real) + len(self.synth))

    def mean_kernels(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The mean kernel within the real set, within the synthetic set, and between them."""
        sums = self._sums(weights)
        return sums.within_real, sums.within_synth, sums.across

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """The first-order term of each image, as `KernelDiscrepancy.contributions`."""
        return {role: 2 * terms for role, terms in self._sums(weights).terms.items()}

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """V = 4 var(g)/n + 4 var(h)/m, the variance of the U-statistic's first-order term."""
        return self.value_and_variance(weights)[1]

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The value and the variance, from one pass."""
        sums = self._sums(weights)
        variance = np.zeros(len(sums.across))
        for role, terms in sums.terms.items():
            w, index = weights[role], self.subjects[role]
            for start in range(0, len(w), GROUP_ROWS):  # its temporary matrices are many
                rows = slice(start, start + GROUP_ROWS)
                variance[rows] += variance_of_mean(2 * terms[rows], w[rows], index)
        return sums.within_real + sums.within_synth - 2 * sums.across, variance

    def null_variance(self) -> float:
        """The variance under relabelling of subjects, as `KernelDiscrepancy.null_variance`."""
        n, m = (n_subjects(self.subjects[role]) for role in ("real", "synth"))
        # A mean over the images of a subject has the weight 1 / their number on each.
        shares = {
            role: (1 / np.bincount(index))[index][None, :] for role, index in self.subjects.items()
        }
        others = n + m - 1
        rows = {
            role: (subject_sums(shares[role] * sums, self.subjects[role])[0]) / others
            for role, sums in self._totals(shares).items()
        }
        mean = float(np.concatenate(list(rows.values())).mean())
        # Pairs of a subject with itself are zero in the kernel and do not count.
        square = -sum(float(((mean - 2 * of_role) ** 2).sum()) for of_role in rows.values())
        for left, right, times in (
            ("real", "real", 1),
            ("synth", "synth", 1),
            ("real", "synth", 2),
        ):
            square += times * self._centred_squares(left, right, rows, mean)
        return 2 * (1 / n + 1 / m) ** 2 * square / ((n + m) * others)

    def _centred_squares(
        self, left: str, right: str, rows: Mapping[str, Float64[np.ndarray, " s"]], mean: float
    ) -> float:
        """Return the sum of squares of the centred kernel between the subjects of two roles."""
        total = 0.0
        for images, kernel in self._blocks(left, right):
            subjects, local = np.unique(self.subjects[left][images], return_inverse=True)
            of_subjects = subject_means(kernel, local.astype(np.int64), self.subjects[right])
            centred = of_subjects - rows[left][subjects, None] - rows[right] + mean
            total += float((centred**2).sum())
        return total

    def _totals(self, weights: Weights) -> dict[str, Float64[np.ndarray, " _"]]:
        """Return each image's weighted sum of kernels with the images of both sets."""
        w, v = weights["real"], weights["synth"]
        real, synth = np.zeros(len(self.real)), np.zeros(len(self.synth))
        for images, kernel in self._blocks("real", "real"):
            real[images] += kernel @ w[0]
        for images, kernel in self._blocks("real", "synth"):
            real[images] += kernel @ v[0]
            synth += w[0, images] @ kernel
        for images, kernel in self._blocks("synth", "synth"):
            synth[images] += kernel @ v[0]
        return {"real": real, "synth": synth}

    def _blocks(
        self, left: str, right: str
    ) -> Iterator[tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, "k n"]]]:
        """Yield images of one role, whole subjects, and their kernels with all of another."""
        rows, columns = (self.real if role == "real" else self.synth for role in (left, right))
        for images in blocks_of_subjects(self.subjects[left], len(columns)):
            kernel = self.kernel(rows[images], columns)
            if left == right:
                kernel[self.subjects[left][images, None] == self.subjects[right]] = 0.0
            yield images, kernel

    def _sums(self, weights: Weights) -> Sums:
        """Return the sums under each row of weights; those at weights of one are kept."""
        if len(weights["real"]) == 1 and all((w == 1).all() for w in weights.values()):
            return self._at_ones
        return self._pass(weights)

    @cached_property
    def _at_ones(self) -> Sums:
        return self._pass(ones(self))

    def _pass(self, weights: Weights) -> Sums:
        w, v = weights["real"], weights["synth"]
        n, m = (total.sum(axis=1, keepdims=True) for total in (w, v))
        across = np.zeros(len(w))
        terms = {"real": np.zeros(w.shape), "synth": np.zeros(v.shape)}
        for images, kernel in self._blocks("real", "synth"):
            to_synth = _product(v, kernel)
            across += (to_synth * w[:, images]).sum(axis=1)
            terms["real"][:, images] = -ratio(to_synth, m)
            for start in range(0, len(w), GROUP_ROWS):
                rows = slice(start, start + GROUP_ROWS)
                terms["synth"][rows] -= w[rows, images] @ kernel
        terms["synth"] /= np.where(n > 0, n, np.nan)
        within = {
            role: self._within(role, weights[role], terms[role]) for role in ("real", "synth")
        }
        return Sums(within["real"], within["synth"], ratio(across, (n * m)[:, 0]), terms)

    def _within(
        self, role: str, w: Float64[np.ndarray, "b n"], terms: Float64[np.ndarray, "b n"]
    ) -> Float64[np.ndarray, " b"]:
        """Return the mean kernel within a set, and add each image's mean to its term."""
        index = self.subjects[role]
        of_subjects = subject_sums(w, index)
        total, sums = w.sum(axis=1, keepdims=True), np.zeros(len(w))
        for images, kernel in self._blocks(role, role):
            row_sums = _product(w, kernel)
            sums += (row_sums * w[:, images]).sum(axis=1)
            terms[:, images] += ratio(row_sums, total - of_subjects[:, index[images]])
        return ratio(sums, total[:, 0] ** 2 - (of_subjects**2).sum(axis=1))


def _product(
    w: Float64[np.ndarray, "b n"], kernel: Float64[np.ndarray, "k n"]
) -> Float64[np.ndarray, "b k"]:
    """Return w K', some rows at a time, so that a row rounds alike whatever their number."""
    groups = range(0, len(w), GROUP_ROWS)
    return np.concatenate([w[start : start + GROUP_ROWS] @ kernel.T for start in groups])
