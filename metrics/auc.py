"""Placement values: the area under the ROC curve as a mean over subjects.

The placement of a positive subject is the share of negative subjects that score below it, a tie
counting one half; that of a negative subject is the share of positive ones that score above it.
The mean of either is the area under the ROC curve, and their variances add up to its sampling
variance over test subjects (DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import rankdata

from synthbench.errors import MetricError
from synthbench.metrics.metric import as_float64


class Placements(NamedTuple):
    """Placement values, one row a model; each row of either has the model's AUC as its mean.

    Attributes
    ----------
    positives
        V10: for each positive subject, the share of negative ones that score below it.
    negatives
        V01: for each negative subject, the share of positive ones that score above it.
    """

    positives: Float64[np.ndarray, "s n1"]
    negatives: Float64[np.ndarray, "s n0"]


def placements(scores: Float64[np.ndarray, "s n"], positive: Bool[np.ndarray, " n"]) -> Placements:
    """Compute placement values by midranks (Sun and Xu 2014, IEEE Signal Process. Lett. 21:1389).

    Parameters
    ----------
    scores
        One row a model, one column a test subject; only their order matters.
    positive
        Which subjects are of the positive class.

    Raises
    ------
    MetricError
        Scores are not finite, or a class has fewer than two subjects.
    """
    scores, positive = as_float64(scores), np.asarray(positive, dtype=bool)
    n1, n0 = int(positive.sum()), int((~positive).sum())
    if min(n1, n0) < 2:
        raise MetricError(
            f"auc: at least 2 test subjects of each class are needed; found {n1} of one and {n0} "
            "of the other. Test on more subjects."
        )
    if not np.isfinite(scores).all():
        raise MetricError("auc: scores must be finite; found NaN or infinity. Look at the model.")
    among_all = rankdata(scores, axis=1)
    among_positives = rankdata(scores[:, positive], axis=1)
    among_negatives = rankdata(scores[:, ~positive], axis=1)
    return Placements(
        positives=(among_all[:, positive] - among_positives) / n0,
        negatives=1 - (among_all[:, ~positive] - among_negatives) / n1,
    )
