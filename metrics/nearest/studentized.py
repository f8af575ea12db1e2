"""Differences between training and hold-out subjects, for each labelling of the subjects."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy import stats

from synthbench.metrics.nearest.labellings import p_values

SMALLEST = 1e-12
"""Variances below this part of the largest square count as zero: they are rounding."""


def excess(
    values: Float64[np.ndarray, "r s"], labels: Float64[np.ndarray, "b s"]
) -> Float64[np.ndarray, "r b"]:
    """Return the sum over training subjects beyond what hold-out subjects lead one to expect.

    It is n_T (mean over training subjects - mean over hold-out subjects).

    Parameters
    ----------
    values
        One column per subject.
    labels
        1 for training, 0 for hold-out; the same number of each in every labelling.
    """
    n_train = labels[0].sum()
    n_holdout = labels.shape[1] - n_train
    of_train = values @ labels.T
    of_holdout = values.sum(axis=1, keepdims=True) - of_train
    difference: Float64[np.ndarray, "r b"] = of_train - of_holdout * n_train / n_holdout
    return difference


def studentized(
    values: Float64[np.ndarray, "r s"], labels: Float64[np.ndarray, "b s"]
) -> Float64[np.ndarray, "r b"]:
    """Return Welch's t of training against hold-out subjects, for each row and labelling.

    It is finite everywhere: zero where both means are equal, and large where subjects of one side
    do not differ from each other.
    """
    size = np.abs(values).max(axis=1, keepdims=True)
    values = np.divide(values, size, out=np.zeros_like(values), where=size > 0)
    error = np.sqrt(_variance(values, labels) + SMALLEST)
    t: Float64[np.ndarray, "r b"] = excess(values, labels) / (labels[0].sum() * error)
    return t


def adjusted_p(
    t: Float64[np.ndarray, "r b"], observed: Int64[np.ndarray, " r"]
) -> Float64[np.ndarray, " r"]:
    """Return the one-sided p-value of each row, adjusted for the number of rows.

    It is the share of labellings whose largest statistic over rows reaches the row's own (the
    single-step procedure of Westfall and Young).

    Parameters
    ----------
    t
        One row per scale, one column per labelling.
    observed
        The column of the observed labelling in each row.
    """
    rows = np.arange(len(t))
    values = np.tile(t.max(axis=0), (len(t), 1))
    values[rows, observed] = t[rows, observed]
    return p_values(values, observed)


def studentized_interval(
    values: Float64[np.ndarray, " s"], labels: Float64[np.ndarray, " s"]
) -> tuple[float, float, float]:
    """Return `excess` of the observed labelling with its 95% interval, by Welch's t.

    The degrees of freedom are those of the smaller side, which is conservative.
    """
    n_train = float(labels.sum())
    share = float(excess(values[None], labels[None])[0, 0])
    error = n_train * float(np.sqrt(_variance(values[None], labels[None])[0, 0]))
    freedom = min(n_train, len(labels) - n_train) - 1
    reach = float(stats.t.ppf(0.975, freedom)) * error
    return share, share - reach, share + reach


def _variance(
    values: Float64[np.ndarray, "r s"], labels: Float64[np.ndarray, "b s"]
) -> Float64[np.ndarray, "r b"]:
    """The variance of the difference of both means."""
    variance = np.zeros((len(values), len(labels)))
    for side in (labels, 1 - labels):
        n = side[0].sum()
        mean = values @ side.T / n
        variance += ((values**2) @ side.T / n - mean**2).clip(min=0) / (n - 1)
    return variance
