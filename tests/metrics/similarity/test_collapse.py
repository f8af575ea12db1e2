"""Collapse: one volume, a few volumes that come again, and sets that vary as real ones do."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.similarity.collapse import diversity

REAL = 0.6


def pairs(n, similarity=REAL, spread=0.03, seed=0):
    """Similarities of n volumes that scatter around a mean, one on the diagonal."""
    rng = np.random.default_rng(seed)
    above = np.triu(similarity + spread * rng.uniform(-1, 1, (n, n)), 1)
    return above + above.T + np.eye(n)


def repeated(n, kinds):
    """Similarities of n volumes of a few kinds: one within a kind, real ones between kinds."""
    kind = np.arange(n) % kinds
    return np.where(kind[:, None] == kind, 1.0, pairs(kinds)[np.ix_(kind, kind)])


def test_the_parts_are_those_of_the_definition():
    synth, real = pairs(5, 0.7, seed=1), pairs(6)
    found = diversity(synth, real)
    s = np.mean([synth[i, j] for i in range(5) for j in range(5) if i != j])
    r = np.mean([real[i, j] for i in range(6) for j in range(6) if i != j])
    assert (found.volumes, found.real_volumes) == (5, 6)
    assert found.similarity == pytest.approx(s)
    assert found.diversity == pytest.approx((1 - s) / (1 - r))
    assert found.twins == 0
    assert not found.collapsed


@pytest.mark.parametrize("kinds", [1, 2, 3, 4, 6])
def test_a_few_volumes_that_come_again_are_a_collapse(kinds):
    """With k kinds of n volumes, a share (n/k - 1) / (n - 1) of the pairs are equal volumes."""
    found = diversity(repeated(24, kinds), pairs(16))
    assert found.diversity == pytest.approx(1 - (24 / kinds - 1) / 23, abs=0.05)
    assert found.twins == 1
    assert found.collapsed


@pytest.mark.parametrize(("similarity", "collapsed"), [(0.9997, True), (0.85, True), (0.7, False)])
def test_nearly_equal_samples_are_a_collapse_and_slightly_alike_ones_are_not(similarity, collapsed):
    assert diversity(pairs(16, similarity, 0.0001), pairs(16)).collapsed is collapsed


def test_one_pair_of_twins_is_no_collapse():
    synth = pairs(16, seed=3)
    synth[0, 1] = synth[1, 0] = 1
    found = diversity(synth, pairs(16))
    assert found.twins == 2 / 16
    assert not found.collapsed


def test_the_order_of_volumes_changes_nothing():
    synth, order = repeated(12, 5), np.random.default_rng(0).permutation(12)
    assert diversity(synth[np.ix_(order, order)], pairs(9)) == diversity(synth, pairs(9))


def test_what_cannot_be_compared_is_said():
    with pytest.raises(MetricError, match="at least 2 samples"):
        diversity(np.ones((1, 1)), pairs(4))
    with pytest.raises(MetricError, match="finite similarities of at least 2 real volumes"):
        diversity(pairs(4), np.full((4, 4), np.nan))
    with pytest.raises(MetricError, match="copies of each other"):
        diversity(pairs(4), np.ones((4, 4)))
