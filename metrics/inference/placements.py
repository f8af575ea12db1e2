"""Placement values: the area under the ROC curve as a mean over subjects.

The placement of a positive subject is the share of negative subjects that score below it, where
equal scores count one half. That of a negative subject is the share of positive subjects that
score above it. The mean of either is the area under the ROC curve, and the sum of the variances of
both means is its sampling variance over test subjects (DeLong, DeLong and Clarke-Pearson 1988,
Biometrics 44:837-845).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.metric import as_float64


class Placements(NamedTuple):
    """Placement values, one row per model or per row of weights.

    The mean of either part, weighted where subjects have weights, is the area under the curve.

    Attributes
    ----------
    positives
        V10: for each positive subject, the share of negative ones that score below it.
    negatives
        V01: for each negative subject, the share of positive ones that score above it.
    """

    positives: Float64[np.ndarray, "b n1"]
    negatives: Float64[np.ndarray, "b n0"]


def placements_under_weights(
    scores: Float64[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> Callable[[Float64[np.ndarray, "b n"]], Placements]:
    """Return the function from weights on subjects to their placement values.

    A weight of 2 counts as two subjects. Scores are sorted once; under each row of weights, the
    weight below a score is then a cumulative sum. With whole weights the numerators are exact, so
    each value has the rounding of one division. NaN where the other class has no weight.

    Parameters
    ----------
    scores
        Only their order matters.
    positive
        True for subjects of the positive class.
    """
    below_positive = _weight_below(scores[~positive], scores[positive])
    below_negative = _weight_below(scores[positive], scores[~positive])

    def placed(weights: Float64[np.ndarray, "b n"]) -> Placements:
        of_positive, of_negative = weights[:, positive], weights[:, ~positive]
        total_positive = of_positive.sum(axis=1, keepdims=True)
        total_negative = of_negative.sum(axis=1, keepdims=True)
        return Placements(
            positives=ratio(below_positive(of_negative), total_negative),
            negatives=ratio(total_positive - below_negative(of_positive), total_positive),
        )

    return placed


def placements(scores: Float64[np.ndarray, "s n"], positive: Bool[np.ndarray, " n"]) -> Placements:
    """Return the placement values of several models on the same subjects, of weight 1 each.

    Parameters
    ----------
    scores
        One row per model, one column per test subject; only their order matters.
    positive
        True for subjects of the positive class.

    Raises
    ------
    MetricError
        Scores are not finite, or a class has fewer than two subjects.
    """
    scores, positive = as_float64(scores), np.asarray(positive, dtype=bool)
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if min(n1, n0) < 2:
        raise MetricError(
            f"auc: each class needs at least 2 test subjects; found {n1} of one and {n0} of the "
            "other. Test on more subjects.",
            "too few subjects",
            needed=2,
            found=min(n1, n0),
        )
    if not np.isfinite(scores).all():
        raise MetricError(
            "auc: scores must be finite; found NaN or infinity. Check the model.",
            "not finite output",
        )
    once = np.ones((1, len(positive)))
    rows = [placements_under_weights(row, positive)(once) for row in scores]
    return Placements(
        positives=np.concatenate([row.positives for row in rows]),
        negatives=np.concatenate([row.negatives for row in rows]),
    )


def _weight_below(
    scores: Float64[np.ndarray, " k"], at: Float64[np.ndarray, " j"]
) -> Callable[[Float64[np.ndarray, "b k"]], Float64[np.ndarray, "b j"]]:
    """The function from weights on `scores` to the weight below each score in `at`, ties half."""
    order = np.argsort(scores, kind="stable")
    first, last = (np.searchsorted(scores[order], at, side=side) for side in ("left", "right"))

    def below(weights: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b j"]:
        sums = np.pad(weights[:, order].cumsum(axis=1), ((0, 0), (1, 0)))
        return np.asarray((sums[:, first] + sums[:, last]) / 2)

    return below
