"""Contrasts under labellings of the real images."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from synthbench.metrics.memorization import memorization
from synthbench.metrics.nearest import labellings
from synthbench.metrics.nearest.labellings import nearest_contrasts
from tests.metrics.nearest.copies import sets


@pytest.mark.parametrize(("n_train", "n_holdout"), [(6, 3), (3, 7), (5, 4), (4, 4)])
def test_the_larger_side_is_averaged_over_all_its_subsets(n_train, n_holdout):
    synth, train, holdout = sets(n_train=n_train, n_holdout=n_holdout)
    n = min(n_train, n_holdout)

    def mean_log(real):
        subsets = combinations(range(len(real)), n)
        return np.mean([np.log(cdist(synth, real[list(s)]).min(axis=1)) for s in subsets], axis=0)

    found = memorization(synth, train, holdout, permutations=99)
    expected = mean_log(holdout) - mean_log(train)
    np.testing.assert_allclose(found.statistic.contrasts, expected, rtol=1e-6, atol=1e-7)
    assert found.n == n


def test_chunks_of_rows_do_not_matter(monkeypatch):
    whole = memorization(*sets(), permutations=99)
    monkeypatch.setattr(labellings, "ROWS_PER_CHUNK", 2)
    pieces = memorization(*sets(), permutations=99)
    assert pieces.p == whole.p
    np.testing.assert_array_equal(pieces.statistic.contrasts, whole.statistic.contrasts)


def test_nearest_contrasts_of_many_labellings_are_those_of_each():
    """Every labelling by itself, from its definition as a difference of minima."""
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(7, 10))
    labels = rng.permuted(np.tile(np.arange(10) < 5, (20, 1)), axis=1)
    expected = [logs[:, ~row].min(axis=1) - logs[:, row].min(axis=1) for row in labels]
    np.testing.assert_allclose(nearest_contrasts(logs, labels), np.transpose(expected), atol=1e-12)
