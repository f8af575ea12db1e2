"""Sets with and without copies, which the tests of memorization share."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def sets(m=9, n_train=8, n_holdout=8, d=4, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(n, d)) for n in (m, n_train, n_holdout))


def near_copies(rng, train, count, distance):
    """Of training images drawn at random, at a share of the distance to their nearest other."""
    chosen = rng.choice(len(train), count, replace=False)
    nearest = np.sort(cdist(train, train), axis=1)[chosen, 1]
    direction = rng.normal(size=(count, train.shape[1]))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return train[chosen] + direction * (distance * nearest)[:, None]
