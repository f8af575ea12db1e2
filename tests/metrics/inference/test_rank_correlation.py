"""Spearman's correlation against SciPy, and how often its interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from synthbench.errors import MetricError
from synthbench.metrics.inference.rank_correlation import FEWEST, spearman


def test_the_value_is_that_of_scipy_also_with_ties():
    rng = np.random.default_rng(0)
    for n in (5, 6, 11, 40):
        x, y = rng.integers(0, 5, n).astype(float), rng.normal(size=n)
        rho, low, high = spearman(x, y)
        assert rho == pytest.approx(spearmanr(x, y).statistic)
        assert -1 <= low <= rho <= high <= 1
        assert spearman(np.exp(x), y**3) == (rho, low, high)
        assert spearman(x, -y) == pytest.approx((-rho, -high, -low))


def test_the_interval_by_hand():
    """Ranks 1 2 3 5 4: rho = 1 - 6 * 2 / 120 = 0.9; se = sqrt(1.405 / 2) = 0.838; artanh 1.472."""
    rho, low, high = spearman(np.arange(5.0), np.array([0.0, 1, 2, 4, 3]))
    assert rho == pytest.approx(0.9)
    assert low == pytest.approx(np.tanh(1.4722 - 1.96 * 0.83815), abs=1e-4)
    assert high == pytest.approx(np.tanh(1.4722 + 1.96 * 0.83815), abs=1e-4)


@pytest.mark.parametrize(("n", "rho"), [(5, 0.0), (10, 0.8)])
def test_the_interval_holds_the_truth_of_normal_pairs(n, rho):
    """Spearman's correlation of normal pairs is 6 / pi arcsin(rho / 2); 400 of them, se 1.1."""
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(rho / 2)
    held = 0
    for _ in range(400):
        x = rng.normal(size=n)
        _, low, high = spearman(x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n))
        held += low <= truth <= high
    assert held >= 0.92 * 400


def test_few_pairs_and_equal_values_are_refused():
    x = np.arange(4.0)
    with pytest.raises(MetricError, match="at least 5 pairs; found 4"):
        spearman(x, x)
    assert FEWEST == 5
    with pytest.raises(MetricError, match="equal"):
        spearman(np.arange(6.0), np.ones(6))
