"""The test that training and hold-out images come from one population."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.metrics.mmd_permutation import BANDWIDTH_FACTORS
from synthbench.metrics.nearest.labellings import ROUNDING, nearest_contrasts, p_values


def sides_p(
    distances: Float64[np.ndarray, "s s"], labels: Bool[np.ndarray, "b s"], floor: float
) -> float:
    """Return the permutation p-value that the two sides of the first labelling are one population.

    Six statistics are standardised over all labellings, and the largest is compared. Five are
    MMD^2 with Gaussian kernels (`synthbench.metrics.mmd_permutation.BANDWIDTH_FACTORS` times the
    median distance). The sixth is the size of the mean of log(d_H / d_T) over the real images
    themselves, without the distance of an image from itself: the statistic of memorization, with
    images that no generator made. It sees where one side is denser around real images.

    Parameters
    ----------
    distances
        Between the real images, one per subject.
    labels
        True for training; the first row is the observed labelling.
    floor
        Smaller distances are set to this before the logarithm.
    """
    own = _own_contrasts(distances, labels, floor)
    scores = _standardised(np.abs(own - own.mean()))
    pairs = distances[np.triu_indices(len(distances), 1)]
    squares = (distances / np.median(pairs)) ** 2
    for factor in BANDWIDTH_FACTORS:
        kernel = np.exp(-squares / (2 * factor**2))
        np.fill_diagonal(kernel, 0.0)
        scores = np.maximum(scores, _standardised(_discrepancies(kernel, labels)))
    return float(p_values(scores[None, :], np.array([0]))[0])


def _own_contrasts(
    distances: Float64[np.ndarray, "s s"], labels: Bool[np.ndarray, "b s"], floor: float
) -> Float64[np.ndarray, " b"]:
    logs = np.log(distances.clip(min=floor))
    # An image is no neighbour of itself: it comes last.
    np.fill_diagonal(logs, logs.max())
    means: Float64[np.ndarray, " b"] = nearest_contrasts(logs, labels).mean(axis=0)
    return means


def _discrepancies(
    kernel: Float64[np.ndarray, "s s"], labels: Bool[np.ndarray, "b s"]
) -> Float64[np.ndarray, " b"]:
    """MMD^2 (unbiased) between the sides of each labelling; the kernel's diagonal is zero."""
    train = labels.astype(np.float64)
    holdout = 1 - train
    n, m = train[0].sum(), holdout[0].sum()
    to_train = train @ kernel
    to_holdout = kernel.sum(axis=0) - to_train
    within = (to_train * train).sum(axis=1) / (n * (n - 1))
    within += (to_holdout * holdout).sum(axis=1) / (m * (m - 1))
    across = (to_train * holdout).sum(axis=1) / (n * m)
    values: Float64[np.ndarray, " b"] = within - 2 * across
    return values


def _standardised(values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Centre and scale; zeros where all values are equal."""
    centred = values - values.mean()
    sd = centred.std()
    scores: Float64[np.ndarray, " b"] = np.zeros_like(values) if sd <= ROUNDING else centred / sd
    return scores
