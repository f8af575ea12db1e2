"""The test that training and hold-out come from one population."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from synthbench.metrics.mmd import MMD2
from synthbench.metrics.nearest.labellings import Sides
from synthbench.metrics.nearest.pairs import MatrixPairs
from synthbench.metrics.nearest.rows import Rows
from synthbench.metrics.nearest.sides import _discrepancies, sides_p


def labels(n, m, permutations=99, seed=0):
    observed = np.arange(n + m) < n
    random = np.random.default_rng(seed).permuted(np.tile(observed, (permutations, 1)), axis=1)
    return np.vstack([observed, random])


def p_of(train, holdout, seed=0):
    real = np.concatenate([train, holdout])
    image, distances = np.arange(len(real)), cdist(real, real)
    sides = Sides(labels(len(train), len(holdout), seed=seed), image, (image,))
    return sides_p(Rows.of(distances).without(image), MatrixPairs(distances), sides, 1e-3)


def test_the_level_is_held():
    """Binomial(60, 0.05) is above 8 with a probability of 0.003."""
    rng = np.random.default_rng(0)
    p = [p_of(rng.normal(size=(20, 5)), rng.normal(size=(30, 5)), i) for i in range(60)]
    assert np.sum(np.array(p) <= 0.05) <= 8


@pytest.mark.parametrize("change", [lambda x: x + 1.0, lambda x: 1.6 * x], ids=["shift", "spread"])
def test_a_shift_and_a_spread_are_seen(change):
    rng = np.random.default_rng(1)
    assert p_of(rng.normal(size=(60, 5)), change(rng.normal(size=(60, 5)))) == 0.01


def test_the_discrepancy_is_mmd2():
    rng = np.random.default_rng(2)
    train, holdout = rng.normal(size=(8, 3)), rng.normal(size=(11, 3)) + 1
    real = np.concatenate([train, holdout])
    found = _discrepancies(MatrixPairs(cdist(real, real)), [1.3], labels(8, 11, 1))[0, 0]
    statistic = MMD2().prepare(train, holdout, bandwidth=1.3)
    ones = {"real": np.ones((1, 8)), "synth": np.ones((1, 11))}
    assert found == pytest.approx(float(statistic.value(ones)[0]), rel=1e-9)
