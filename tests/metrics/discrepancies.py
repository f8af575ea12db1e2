"""Sets and double sums, which the tests of discrepancies share."""

from __future__ import annotations

import numpy as np
from sklearn.metrics.pairwise import rbf_kernel

from synthbench.metrics.linear_mmd import MMDLinear


def sets(n=11, m=9, d=4, shift=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


def double_sums(kxx, kyy, kxy, x_id, y_id):
    """Mean over ordered pairs of rows of different originals, less twice the mean across."""

    def within(k, ids):
        pairs = [(i, j) for i in range(len(k)) for j in range(len(k)) if ids[i] != ids[j]]
        return sum(k[i, j] for i, j in pairs) / len(pairs)

    return within(kxx, x_id) + within(kyy, y_id) - 2 * kxy.mean()


def rbf_double_sums(x, y, bandwidth, x_id=None, y_id=None):
    gamma = 1 / (2 * bandwidth**2)
    return double_sums(
        rbf_kernel(x, gamma=gamma),
        rbf_kernel(y, gamma=gamma),
        rbf_kernel(x, y, gamma=gamma),
        np.arange(len(x)) if x_id is None else x_id,
        np.arange(len(y)) if y_id is None else y_id,
    )


def volumes(n, seed, shape=(4, 3, 5), shift=0.0):
    """Bright volumes that differ little: their discrepancy is about 1e-4 of their products."""
    rng = np.random.default_rng(seed)
    return (0.8 + shift + 0.05 * rng.normal(size=(n, *shape))).astype(np.float32)


def linear_statistic(x, y, subjects=None):
    """Through the metric's three steps, with a mask and settings that it has no use for."""
    metric, mask = MMDLinear(), np.zeros(x.shape[1:], dtype=bool)
    real, synth = (metric.measure(a, mask, {}) for a in (x, y))
    cross = metric.measure_across(x, y, mask, {})
    return metric.prepare(real, synth, cross=cross, subjects=subjects)
