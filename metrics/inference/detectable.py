"""The minimum detectable effect of a floor: the excess that is found with 80% probability.

A finding is that the mean of a statistic over many matched subsamples lies beyond the edge of its
real-vs-real floor. Whether a difference is found depends on its size and on how it varies from
sample to sample, which a difference usually increases. So the alternative is stated: the second
side is shifted by a dose, and its values over the splits of the floor give both numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from synthbench.metrics.metric import Direction

POWER = 0.8
"""The probability with which an effect of `Spread.minimum_detectable_effect` is detected."""

FIRST_DOSE = 0.25
LARGEST_DOSE = 16.0
"""Doses, in standard deviations, at which the search starts and gives up."""

MAX_TRIALS = 12
CLOSE = 0.02
"""The search ends where the effect of a dose is this near to the one that is detectable."""

Values = Float64[np.ndarray, " b"]


def minimum_detectable_effect(
    null: Values,
    shifted: Callable[[float], Values],
    share: float,
    direction: Direction,
) -> float | None:
    """Return the smallest expected excess over the floor's mean that is detected with 80% power.

    The excess x solves x = |c - mean| + z_0.8 sd(x). Here c is the edge of the floor on the side to
    which the shift moves the values, and sd is that of the mean over matched subsamples, for the
    dose whose excess is x. It comes from the variance V over the splits at that dose: for sets of
    N and M subjects and subsamples of n, sd^2 = V (n/N + n/M) / 2. This is the variance of a sum
    of one term per subject, which dominates away from the null. Terms of pairs of subjects fall
    faster (Hoeffding 1948), so sd is a little too large where they matter. That about makes up
    for the sampling error of c, which is left out.

    Parameters
    ----------
    null
        The statistic between the two sides of each split.
    shifted
        From a dose above zero to the statistic of the same splits with the second side shifted.
    share
        (n/N + n/M) / 2.
    direction
        The better side of the metric.

    Returns
    -------
    The excess, in the metric's unit; None where no dose up to `LARGEST_DOSE` reaches it.
    """
    z = NormalDist().inv_cdf(POWER)
    low, high = np.quantile(null, [0.025, 0.975])

    def excess_and_detectable(dose: float) -> tuple[float, float]:
        values = shifted(dose)
        excess = float(values.mean() - null.mean())
        worse_below = direction == "higher" or (direction == "zero" and excess < 0)
        edge = null.mean() - low if worse_below else high - null.mean()
        return -excess if worse_below else excess, float(edge + z * np.sqrt(share) * values.std())

    return _crossing(excess_and_detectable)


def _crossing(both: Callable[[float], tuple[float, float]]) -> float | None:
    """Return the excess at the dose where it equals the detectable one; None where none does."""
    below, above = 0.0, np.inf
    dose, found = FIRST_DOSE, None
    for _ in range(MAX_TRIALS):
        excess, detectable = both(dose)
        if not (np.isfinite(excess) and np.isfinite(detectable)):
            return None
        found = detectable
        if abs(excess - detectable) <= CLOSE * detectable:
            break
        below, above = (dose, above) if excess < detectable else (below, dose)
        if below >= LARGEST_DOSE:
            return None
        # Most excesses grow as the square of the dose.
        factor = np.sqrt(detectable / excess) if excess > 0 else 2.0
        dose *= float(np.clip(factor, 0.25, 2.0))
        if not below < dose < above:
            dose = (below + above) / 2
    return found
