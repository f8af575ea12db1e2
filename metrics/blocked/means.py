"""The squared distance between mean rows of two large sets, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

from synthbench.metrics.blocked.discrepancy import BlockedDiscrepancy, Squares, Sums
from synthbench.metrics.inference.pairs import ratio, subject_sums
from synthbench.metrics.kernels import squares_near_origin
from synthbench.metrics.metric import Weights, ones


def half_negative_squares(
    x: Float64[np.ndarray, "n k"], y: Float64[np.ndarray, "m k"]
) -> Float64[np.ndarray, "n m"]:
    """Return the kernel -|a - b|^2 / 2, whose MMD^2 is the squared distance between means."""
    kernel = squares_near_origin(x, y)
    kernel /= -2
    return kernel


@dataclass(frozen=True)
class BlockedMeanDistance(BlockedDiscrepancy):
    """Squared distance between mean rows, as `synthbench.metrics.seams.mean_kernels` defines it.

    The sum over j of w_j K_ij is -(|x_i|^2 sum w + sum w |x|^2 - 2 x_i . sum w x) / 2. So values
    and variances need no kernel: time O(b (n + m) k) for rows of k numbers. Its kernel is
    `half_negative_squares`.
    """

    def ahead(self, weights: Weights) -> None:
        """Do nothing: a pass costs next to nothing."""

    @cached_property
    def _at_ones(self) -> tuple[Sums, Squares | None]:
        return self._pass(ones(self)), None

    def _pass(self, weights: Weights) -> Sums:
        w, v = weights["real"], weights["synth"]
        n, m = (total.sum(axis=1, keepdims=True) for total in (w, v))
        to_synth = _kernel_sums(self.real, self.synth, v)
        to_real = _kernel_sums(self.synth, self.real, w)
        terms = {"real": -ratio(to_synth, m), "synth": -ratio(to_real, n)}
        across = ratio((to_synth * w).sum(axis=1), (n * m)[:, 0])
        within = {}
        for role, rows in (("real", self.real), ("synth", self.synth)):
            u, index = weights[role], self.subjects[role]
            # Pairs of images of one subject do not count; an image and itself are at distance 0.
            sums = _kernel_sums(rows, rows, u) - u @ self._within_subjects[role]
            of_subjects, total = subject_sums(u, index), u.sum(axis=1, keepdims=True)
            terms[role] += ratio(sums, total - of_subjects[:, index])
            pairs = total[:, 0] ** 2 - (of_subjects**2).sum(axis=1)
            within[role] = ratio((sums * u).sum(axis=1), pairs)
        return Sums(within["real"], within["synth"], across, terms)

    @cached_property
    def _within_subjects(self) -> Mapping[str, sparse.csr_array]:
        """The kernels of pairs of images of one subject, by role."""
        return {
            role: _pairs_of_subjects(rows, self.subjects[role])
            for role, rows in (("real", self.real), ("synth", self.synth))
        }


def _kernel_sums(
    rows: Float64[np.ndarray, "n k"],
    others: Float64[np.ndarray, "m k"],
    w: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, "b n"]:
    """Return each row's weighted sum of kernels with the other rows."""
    total, squares = w.sum(axis=1, keepdims=True), w @ (others**2).sum(axis=1)
    sums: Float64[np.ndarray, "b n"] = (w @ others) @ rows.T
    sums -= total * (rows**2).sum(axis=1) / 2
    sums -= squares[:, None] / 2
    return sums


def _pairs_of_subjects(
    rows: Float64[np.ndarray, "n k"], index: Int64[np.ndarray, " n"]
) -> sparse.csr_array:
    order = np.argsort(index, kind="stable")
    left, right = [], []
    for images in np.split(order, np.flatnonzero(np.diff(index[order])) + 1):
        if len(images) > 1:
            left.append(np.repeat(images, len(images)))
            right.append(np.tile(images, len(images)))
    i, j = (np.concatenate([np.zeros(0, np.int64), *places]) for places in (left, right))
    values = -((rows[i] - rows[j]) ** 2).sum(axis=1) / 2
    return sparse.csr_array((values, (i, j)), shape=(len(rows), len(rows)))
