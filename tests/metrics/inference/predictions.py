"""Simulated predictions, which the tests of downstream measures share."""

from __future__ import annotations

import numpy as np


def scores_and_truth(n=40, s=3, seed=0):
    rng = np.random.default_rng(seed)
    truth = (np.arange(n) % 2).astype(float)
    # Rounded, so that there are ties.
    return np.round(rng.standard_normal((s, n)) + truth, 1), truth
