"""Distributions of one measure under weights: their spread, and the distance of two of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.metric import Weights


def wasserstein(
    x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " m"], weights: Weights
) -> Float64[np.ndarray, " b"]:
    """Return the Wasserstein-1 distance of two weighted samples, under each row of weights.

    It is the area between the cumulative distributions, which are constant between neighbours.
    """
    pooled = np.concatenate([x, y])
    order = np.argsort(pooled, kind="stable")
    w, v = weights["real"], weights["synth"]
    shares = np.hstack([ratio(w, w.sum(axis=1, keepdims=True)),
                        -ratio(v, v.sum(axis=1, keepdims=True))])  # fmt: skip
    gaps = np.abs(np.cumsum(shares[:, order], axis=1)[:, :-1])
    area: Float64[np.ndarray, " b"] = gaps @ np.diff(pooled[order])
    return area


def deviation(
    x: Float64[np.ndarray, " n"], w: Float64[np.ndarray, "b n"]
) -> Float64[np.ndarray, " b"]:
    """Return the standard deviation (divisor n) under each row of weights."""
    n = w.sum(axis=1)
    mean = ratio(w @ x, n)
    # Two passes: the difference of two means of squares would lose the digits of a small spread.
    return np.asarray(np.sqrt(ratio((w * (x - mean[:, None]) ** 2).sum(axis=1), n)))
