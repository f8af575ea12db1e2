"""The interval of the gap between the distances to training and to unseen images."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64


class Gap(NamedTuple):
    """An interval of the mean of log(d_H / d_T), for the draw of all images.

    Attributes
    ----------
    low, high
        Its limits.
    level
        Its nominal coverage.
    """

    low: float
    high: float
    level: float


def gap_interval(values: Float64[np.ndarray, " b"], level: float) -> Gap:
    """Invert the permutation test: return the gaps that the observed value does not reject.

    Parameters
    ----------
    values
        The mean of log(d_H / d_T) under each labelling, the observed one first.
    level
        Nominal coverage, in (0, 1).

    Examples
    --------
    >>> gap_interval(np.array([1.0, -0.5, 0.0, 0.5]), 0.5)
    Gap(low=0.375, high=1.125, level=0.5)
    """
    tail = (1 - level) / 2
    low, high = np.quantile(values, [1 - tail, tail])
    return Gap(float(values[0] - low), float(values[0] - high), level)
