"""Contrasts under labellings of the real images."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from synthbench.metrics.memorization import memorization
from synthbench.metrics.nearest import rows as rows_module
from synthbench.metrics.nearest.labellings import Sides, nearest_contrasts, some_scans
from synthbench.metrics.nearest.rows import Ranked, Rows
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
    monkeypatch.setattr(rows_module, "ROWS_PER_CHUNK", 2)
    pieces = memorization(*sets(), permutations=99)
    assert pieces.p == whole.p
    np.testing.assert_array_equal(pieces.statistic.contrasts, whole.statistic.contrasts)


def test_nearest_contrasts_of_many_labellings_are_those_of_each():
    """Every labelling by itself, from its definition as a difference of minima."""
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(7, 10))
    labels = rng.permuted(np.tile(np.arange(10) < 5, (20, 1)), axis=1)
    expected = [logs[:, ~row].min(axis=1) - logs[:, row].min(axis=1) for row in labels]
    found = nearest_contrasts(Ranked.of(logs), labels)
    np.testing.assert_allclose(found, np.transpose(expected), atol=1e-12)


def test_a_draw_has_equally_many_scans_of_each_subject():
    subjects = np.array([0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3])
    drawn = [tuple(some_scans(subjects, 1, np.random.default_rng(i))) for i in range(60)]
    for draw in drawn:
        np.testing.assert_array_equal(subjects[list(draw)], [0, 1, 2, 3])
    assert {i for draw in drawn for i in draw} == set(range(11))
    sides = Sides.permuted(subjects[:6], subjects[6:] - 3, 9, np.random.default_rng(0))
    assert {len(draw) for draw in sides.draws} == {4}
    equal = Sides.permuted(np.array([0, 0, 1, 1]), np.array([0, 0]), 9, np.random.default_rng(0))
    np.testing.assert_array_equal(equal.draws, [np.arange(6)])


def test_values_are_averaged_over_draws():
    """Log distances to the drawn scans, by hand."""
    subjects = np.array([0, 1, 1, 2, 3])
    sides = Sides.permuted(subjects[:3], subjects[3:] - 2, 2, np.random.default_rng(0))
    sides = sides.of((np.array([0, 1, 3, 4]), np.array([0, 2, 3, 4])))
    distances = np.array([[8.0, 2.0, 4.0, 16.0, 32.0]])
    found = sides.averaged(Rows.of(distances), 1e-3, nearest_contrasts)[0, 0]
    assert found == pytest.approx(np.log([16 / 2, 16 / 4]).mean(), rel=1e-12)


def test_labels_are_permuted_within_strata():
    rng = np.random.default_rng(0)
    sides = Sides.permuted(np.arange(6), np.arange(6), 50, rng)
    strata = np.array([0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    within = sides.within(strata, rng)
    assert (within.labels[:, strata == 0].sum(axis=1) == 4).all()
    assert len(np.unique(within.labels, axis=0)) > 10
    apart = sides.within(np.arange(12) // 6, rng)
    np.testing.assert_array_equal(apart.labels, sides.labels)
