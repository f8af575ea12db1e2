"""Frechet distance between two sets of features, exactly, at any n and d.

The distance between Gaussians fitted to the two sets (Dowson and Landau 1982; Heusel et al.
2017): |mu_x - mu_y|^2 + tr S_x + tr S_y - 2 tr (S_x S_y)^(1/2). With A and B the centred
features over sqrt(n - 1) and sqrt(m - 1), the last trace is the nuclear norm of the n x m
matrix A B'. So with few images and many features, inner products of images are enough. Where n
is far below d the distance is biased upward, by an amount that falls with n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.inference.resampling import LARGE_SET, estimate
from synthbench.metrics.inference.sections import Sums, in_sections
from synthbench.metrics.kernels import rows_per_block
from synthbench.metrics.metric import BaseMetric, Weights, as_float64, check_features, check_memory
from synthbench.metrics.subjects import subject_index

GROUP = 64
"""Resamples whose singular values are found together, padded to one shape."""

GROUP_NUMBERS = 2**24
"""A group is smaller where its n x m matrices would hold more numbers than this."""


MATRICES = 12
"""Matrices over pairs of features that are in memory together, with those inside LAPACK."""


@dataclass(frozen=True)
class GramFrechet:
    """Frechet distance as a function of weights, from inner products of images.

    Attributes
    ----------
    real, synth, cross
        Blocks of the joint Gram matrix of all images, centred by their pooled mean.
    subjects
        For each role, the subject index of each image.
    """

    real: Float64[np.ndarray, "n n"]
    synth: Float64[np.ndarray, "m m"]
    cross: Float64[np.ndarray, "n m"]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The distance with weighted means and covariances; NaN where a sum of weights is <= 1."""
        n, m = weights["real"].sum(axis=1), weights["synth"].sum(axis=1)
        nuclear = ratio(
            _nuclear_norms(self.cross, weights["real"], weights["synth"]),
            np.sqrt(np.maximum((n - 1) * (m - 1), 0)),
        )
        distance: Float64[np.ndarray, " b"] = self.magnitude(weights) - 2 * nuclear
        return distance

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum |mu_x - mu_y|^2 + tr S_x + tr S_y, from which 2 ||A B'||_* is subtracted.

        The subtracted term is at most tr S_x + tr S_y, so the sum is the size of all terms.
        """
        w, v = weights["real"], weights["synth"]
        n, m = w.sum(axis=1), v.sum(axis=1)
        mean_norm_x = ratio(((w @ self.real) * w).sum(axis=1), n**2)
        mean_norm_y = ratio(((v @ self.synth) * v).sum(axis=1), m**2)
        cross_of_means = ratio(((w @ self.cross) * v).sum(axis=1), n * m)
        trace_x = ratio(w @ np.diag(self.real) - n * mean_norm_x, n - 1)
        trace_y = ratio(v @ np.diag(self.synth) - m * mean_norm_y, m - 1)
        mean_distance = mean_norm_x + mean_norm_y - 2 * cross_of_means
        terms: Float64[np.ndarray, " b"] = mean_distance + trace_x + trace_y
        return terms

    def influence(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """The derivative by each image's weight, for the infinitesimal jackknife.

        With C = U S V' the centred cross block, g_i = 2 (x_i - mu_x).(mu_x - mu_y)
        + n/(n-1) |x_i - mu_x|^2 - n sum_k S_k U_ik^2 / sqrt((n-1)(m-1)); h_j likewise.
        """
        n, m = self.cross.shape
        u, s, vt = np.linalg.svd(_centred(self.cross), full_matrices=False)
        scale = np.sqrt((n - 1) * (m - 1))
        shift_x = self.real.mean(axis=1) - self.cross.mean(axis=1)
        shift_y = self.synth.mean(axis=1) - self.cross.mean(axis=0)
        return {
            "real": 2 * (shift_x - shift_x.mean())
            + n / (n - 1) * np.diag(_centred(self.real))
            - n * (u**2 @ s) / scale,
            "synth": 2 * (shift_y - shift_y.mean())
            + m / (m - 1) * np.diag(_centred(self.synth))
            - m * (s @ vt**2) / scale,
        }


@dataclass(frozen=True)
class MomentFrechet:
    """Frechet distance as a function of weights, from means and covariances.

    Attributes
    ----------
    real, synth
        Features, near their pooled mean in small sets.
    subjects
        For each role, the subject index of each image.
    """

    real: Float[np.ndarray, "n d"]
    synth: Float[np.ndarray, "m d"]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The distance with weighted means and covariances; NaN where a sum of weights is <= 1.

        Rows of weights of a large set are divided into sections, as passes over pairs are.
        """
        rows = list(zip(weights["real"], weights["synth"], strict=True))

        def compute(some: Sequence[tuple[np.ndarray, np.ndarray]]) -> Sums:
            return {"values": np.array([self._value(w, v) for w, v in some])}

        if len(rows) == 1 or max(len(self.real), len(self.synth)) <= LARGE_SET:
            return compute(rows)["values"]
        found = in_sections(
            "frechet",
            lambda: (self.real, self.synth, weights["real"], weights["synth"]),
            rows,
            compute,
        )
        return np.concatenate([sums["values"] for sums in found])

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum |mu_x - mu_y|^2 + tr S_x + tr S_y, as `GramFrechet.magnitude`."""
        rows = zip(weights["real"], weights["synth"], strict=True)
        return np.array([self._terms(w, v) for w, v in rows])

    def _terms(self, w: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " m"]) -> float:
        (mean_x, cov_x), (mean_y, cov_y) = moments(self.real, w), moments(self.synth, v)
        return float((mean_x - mean_y) @ (mean_x - mean_y) + np.trace(cov_x) + np.trace(cov_y))

    def _value(self, w: Float64[np.ndarray, " n"], v: Float64[np.ndarray, " m"]) -> float:
        if min(w.sum(), v.sum()) <= 1:
            return float("nan")
        return gaussian_frechet(*moments(self.real, w), *moments(self.synth, v))

    def influence(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """The derivative by each image's weight, as `GramFrechet.influence`."""
        mean_x, cov_x = moments(self.real, np.ones(len(self.real)))
        mean_y, cov_y = moments(self.synth, np.ones(len(self.synth)))
        return {
            "real": _moment_influence(self.real, mean_x, mean_x - mean_y, cov_x, cov_y),
            "synth": _moment_influence(self.synth, mean_y, mean_y - mean_x, cov_y, cov_x),
        }


class FID(BaseMetric):
    """Frechet distance between Gaussians fitted to the features; biased upward at small n."""

    name = "fid"
    label = "FID"
    label_with_n = True
    drawn = True
    formula = "|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)); divisors n - 1; not clamped"
    sees = "differences in the mean and the covariance of the features"
    misses = "higher moments; at small n it rewards lost diversity: read it beside its floor"
    bounds: tuple[float, float] = (0.0, math.inf)
    responds_to: tuple[str, ...] = ("blur", "bias")

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> GramFrechet | MomentFrechet:
        """Compute the joint Gram matrix once; with d <= min(n, m), covariances are cheaper.

        Sets of more than `synthbench.metrics.inference.resampling.LARGE_SET` images always have
        covariances, summed over blocks of rows. With d > n they lose up to nine of 16 digits.

        Parameters
        ----------
        real, synth
            Feature matrices, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.

        Raises
        ------
        MetricError
            `check_features` refuses the features, or covariances of a large set do not fit into
            `--max-memory`.
        """
        sets = check_features(self.name, widen=False, real=real, synth=synth)
        x, y = sets["real"], sets["synth"]
        index = subject_index(subjects, real=len(x), synth=len(y))
        # Neither route depends on the origin; near the data it loses the fewest digits.
        if max(len(x), len(y)) > LARGE_SET:
            d = x.shape[1]
            check_memory(self.name, MATRICES * d**2, f"{MATRICES} matrices of {d} x {d} features")
            # Their moments move each block of rows to the mean.
            return MomentFrechet(real=x, synth=x if synth is real else y, subjects=index)
        x, y = as_float64(x), as_float64(y)
        origin = (x.sum(axis=0) + y.sum(axis=0)) / (len(x) + len(y))
        x, y = x - origin, y - origin
        if x.shape[1] <= min(len(x), len(y)):
            return MomentFrechet(real=x, synth=y, subjects=index)
        return GramFrechet(real=x @ x.T, synth=y @ y.T, cross=x @ y.T, subjects=index)


def fid(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Return the Frechet distance between two sets of features.

    Parameters
    ----------
    x, y
        Features of the real and the synthetic images, at least two of each.

    Returns
    -------
    The distance in squared feature units. Zero for equal sets, up to rounding; a negative number
    of the size of rounding is not set to zero.

    Raises
    ------
    MetricError
        `check_features` refuses the features.

    Examples
    --------
    >>> x = np.array([[0.0], [2.0]])
    >>> round(fid(x, x + 3), 6)  # equal variances, means 3 apart
    9.0
    """
    return estimate(FID().prepare(x, y))


def effective_rank(x: Float64[np.ndarray, "n d"]) -> float:
    """Return the effective rank of the features' covariance, r = (sum lambda)^2 / sum lambda^2.

    Returns
    -------
    r in [1, min(n - 1, d)]; r equal eigenvalues would give r. The smaller n / r, the larger the
    bias of the Frechet distance.

    Raises
    ------
    MetricError
        The features are unusable, or constant.
    """
    features = check_features("effective rank", widen=False, features=x)["features"]
    if len(features) > LARGE_SET:
        trace, squares = _scatter_sums(features)
    else:
        centred = as_float64(features) - features.mean(axis=0, dtype=np.float64)
        few_images = len(centred) < centred.shape[1]
        gram = centred @ centred.T if few_images else centred.T @ centred
        trace, squares = float(np.trace(gram)), float((gram**2).sum())
    size = float(np.einsum("ij,ij->i", features, features).sum(dtype=np.float64))
    if trace <= np.finfo(np.float64).eps ** 2 * size * len(features):
        raise MetricError(
            "effective rank: the features must vary between images; found the same row in all "
            f"{len(features)}. Look for duplicated volumes or an extractor with constant output.",
            "no spread",
        )
    return trace**2 / squares


def _scatter_sums(x: Float[np.ndarray, "n d"]) -> tuple[float, float]:
    """Return trace and sum of squares of the scatter matrix, which is computed in parts.

    With many features the whole matrix may take more memory than they do.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    trace = squares = 0.0
    step = rows_per_block(x.shape[1])
    for start in range(0, x.shape[1], step):
        columns = slice(start, start + step)
        part = np.zeros((x.shape[1], len(mean[columns])))
        for rows in _blocks(*x.shape):
            centred = x[rows] - mean
            part += centred.T @ centred[:, columns]
        trace += float(np.trace(part, -start))
        squares += float(np.vdot(part, part))
    return trace, squares


def moments(
    x: Float[np.ndarray, "n d"], w: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "d d"]]:
    """The weighted mean and covariance (divisor: the sum of the weights minus one)."""
    n = w.sum()
    if len(x) <= LARGE_SET:
        mean = w @ x / n
        scaled = (x - mean) * np.sqrt(w)[:, None]
        return mean, scaled.T @ scaled / (n - 1)
    mean = np.zeros(x.shape[1])
    covariance: Float64[np.ndarray, "d d"] = np.zeros((x.shape[1], x.shape[1]))
    weighted = np.flatnonzero(w)
    # Features may be float32: only blocks of them are widened.
    for rows in _blocks(len(weighted), x.shape[1]):
        mean += w[weighted[rows]] @ x[weighted[rows]]
    mean /= n
    for rows in _blocks(len(weighted), x.shape[1]):
        chosen = weighted[rows]
        scaled = (x[chosen] - mean) * np.sqrt(w[chosen])[:, None]
        covariance += scaled.T @ scaled
    covariance /= n - 1
    return mean, covariance


def _blocks(n: int, d: int) -> Iterator[slice]:
    """Yield slices of n rows with at most `BLOCK_NUMBERS` features; all rows of a small set."""
    step = n if n <= LARGE_SET else rows_per_block(d)
    for start in range(0, n, step):
        yield slice(start, start + step)


def gaussian_frechet(
    mean_x: Float64[np.ndarray, " d"],
    cov_x: Float64[np.ndarray, "d d"],
    mean_y: Float64[np.ndarray, " d"],
    cov_y: Float64[np.ndarray, "d d"],
) -> float:
    """The Frechet distance of two Gaussians, from the eigenvalues of S_x^(1/2) S_y S_x^(1/2)."""
    root = _square_root(cov_x)
    eigenvalues = np.maximum(np.linalg.eigvalsh(root @ cov_y @ root), 0.0)
    shift = mean_x - mean_y
    return float(shift @ shift + np.trace(cov_x) + np.trace(cov_y) - 2 * np.sqrt(eigenvalues).sum())


def _square_root(covariance: Float64[np.ndarray, "d d"]) -> Float64[np.ndarray, "d d"]:
    """The symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    root: Float64[np.ndarray, "d d"] = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def _moment_influence(
    x: Float[np.ndarray, "n d"],
    mean: Float64[np.ndarray, " d"],
    shift: Float64[np.ndarray, " d"],
    own: Float64[np.ndarray, "d d"],
    other: Float64[np.ndarray, "d d"],
) -> Float64[np.ndarray, " n"]:
    """The g_i of one set (`GramFrechet.influence`), without an n x m singular-value decomposition.

    n sum_k S_k U_ik^2 / sqrt((n-1)(m-1)) equals n/(n-1) x_i' T x_i for a centred row x_i, with
    T = S^(-1/2) (S^(1/2) S_other S^(1/2))^(1/2) S^(-1/2) and S the covariance of this set.
    """
    values, vectors = np.linalg.eigh(own)
    # Centred rows have no component along directions without variance.
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    scales = np.sqrt(values[kept])
    axes = vectors[:, kept] * scales
    product = axes.T @ other @ axes
    del axes  # each of these matrices may take a tenth of the memory
    middle = _square_root(product)
    n = len(x)
    g: Float64[np.ndarray, " n"] = np.zeros(n)
    for rows in _blocks(n, x.shape[1]):
        centred = x[rows] - mean
        whitened = centred @ (vectors[:, kept] / scales)
        transport = ((whitened @ middle) * whitened).sum(axis=1)
        spread = (centred**2).sum(axis=1) - transport
        g[rows] = 2 * centred @ shift + n / (n - 1) * spread
    return g


def _centred(block: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n m"]:
    """Inner products after the mean of each set is subtracted from its rows."""
    rows, columns = block.mean(axis=1, keepdims=True), block.mean(axis=0, keepdims=True)
    centred: Float64[np.ndarray, "n m"] = block - rows - columns + block.mean()
    return centred


def _nuclear_norms(
    cross: Float64[np.ndarray, "n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Sums of singular values of the weighted, centred cross blocks."""
    norms = np.zeros(len(w))
    # Resamples with similar numbers of distinct images form a group, so that padding is short.
    order = np.argsort(np.count_nonzero(w, axis=1) + np.count_nonzero(v, axis=1), kind="stable")
    size = max(1, min(GROUP, GROUP_NUMBERS // cross.size))
    for start in range(0, len(w), size):
        group = order[start : start + size]
        norms[group] = _nuclear_norms_of_group(cross, w[group], v[group])
    return norms


def _nuclear_norms_of_group(
    cross: Float64[np.ndarray, "n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    rows, columns = _weighted_first(w), _weighted_first(v)
    w_kept, v_kept = np.take_along_axis(w, rows, axis=1), np.take_along_axis(v, columns, axis=1)
    mean_over_rows = ratio(w @ cross, w.sum(axis=1, keepdims=True))
    mean_over_columns = ratio(v @ cross.T, v.sum(axis=1, keepdims=True))
    overall = ratio((mean_over_rows * v).sum(axis=1), v.sum(axis=1))
    centred = cross[rows[:, :, None], columns[:, None, :]]
    centred -= np.take_along_axis(mean_over_rows, columns, axis=1)[:, None, :]
    centred -= np.take_along_axis(mean_over_columns, rows, axis=1)[:, :, None]
    centred += overall[:, None, None]
    centred *= np.sqrt(w_kept)[:, :, None] * np.sqrt(v_kept)[:, None, :]
    norms: Float64[np.ndarray, " b"] = np.linalg.svd(centred, compute_uv=False).sum(axis=1)
    return norms


def _weighted_first(w: Float64[np.ndarray, "b n"]) -> Int64[np.ndarray, "b k"]:
    """Indices of the images with weight, then of some without, up to one length for all rows.

    Images without weight become zero rows of the matrix and do not change its singular values.
    """
    longest = int(np.count_nonzero(w, axis=1).max())
    return np.argsort(w == 0, axis=1, kind="stable")[:, :longest]
