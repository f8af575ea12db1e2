"""Welch's t for each labelling, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.metrics.nearest.studentized import (
    adjusted_p,
    excess,
    studentized,
    studentized_interval,
)


@pytest.fixture
def drawn():
    rng = np.random.default_rng(2)
    labels = rng.permuted(np.tile(np.arange(11) < 4, (6, 1)), axis=1).astype(float)
    return rng.poisson(3, size=(3, 11)).astype(float), labels


def test_it_is_welchs_t(drawn):
    values, labels = drawn
    found = studentized(values, labels)
    for row, own in enumerate(values):
        for column, label in enumerate(labels):
            expected = stats.ttest_ind(own[label > 0], own[label == 0], equal_var=False)
            assert found[row, column] == pytest.approx(expected.statistic, rel=1e-6)


def test_the_interval_is_around_the_excess(drawn):
    values, labels = drawn
    value, low, high = studentized_interval(values[0], labels[0])
    train, holdout = values[0][labels[0] > 0], values[0][labels[0] == 0]
    assert value == pytest.approx(train.sum() - holdout.sum() * 4 / 7)
    assert value == pytest.approx(excess(values, labels)[0, 0])
    error = 4 * np.sqrt(train.var(ddof=1) / 4 + holdout.var(ddof=1) / 7)
    assert high - value == pytest.approx(stats.t.ppf(0.975, 3) * error)
    assert value - low == pytest.approx(high - value)


def test_values_without_spread_are_finite():
    labels = np.array([[1.0, 1, 0, 0], [1, 0, 1, 0]])
    t = studentized(np.array([[0.0, 0, 0, 0], [2.0, 2, 0, 0]]), labels)
    assert np.isfinite(t).all()
    assert t[0].tolist() == [0, 0]
    assert t[1, 0] > 1000 > t[1, 1]


def test_p_values_are_those_of_the_largest_row():
    """With columns (5, 1), (4, 6), (1, 2) and (0, 0), maxima are 5, 6, 2 and 0. The first row's 5
    is reached by itself and by 6; the second row's 1 by itself, 6 and 2.
    """
    t = np.array([[5.0, 4, 1, 0], [1.0, 6, 2, 0]])
    assert adjusted_p(t, np.zeros(2, int)).tolist() == [0.5, 0.75]
