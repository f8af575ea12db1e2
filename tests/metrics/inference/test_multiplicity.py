"""Corrections for many comparisons, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import multiplicity


def test_max_t_by_hand():
    """Of 19 resamples the 19th smallest maximum is critical at 95%: ceil(0.95 * 20) = 19. Its
    maxima here are 0.1, ..., 1.9, so |t| = 2 has p = 1/20, and 1.85 has (1 + 1)/20.
    """
    maxima = np.arange(1, 20) / 10
    resampled = np.stack([maxima, -maxima / 2], axis=1)
    critical, p = multiplicity.max_t(np.array([-2.0, 1.85]), resampled, level=0.95)
    assert critical == 1.9
    np.testing.assert_allclose(p, [0.05, 0.10])
    with pytest.raises(MetricError, match="more than 18 resamples"):
        multiplicity.max_t(np.array([1.0]), resampled[1:, :1], level=0.95)


def test_max_t_grows_with_the_number_of_pairs():
    """Of k independent normal differences, the critical value is Phi^-1((1 + 0.95^(1/k))/2)."""
    t = np.random.default_rng(0).normal(size=(20000, 10))
    for k in (1, 3, 10):
        critical, _ = multiplicity.max_t(np.zeros(k), t[:, :k], level=0.95)
        assert critical == pytest.approx(stats.norm.ppf((1 + 0.95 ** (1 / k)) / 2), abs=0.05)


def test_holm_by_hand():
    """Sorted 0.01, 0.015, 0.02, 0.5 times 4, 3, 2, 1 is 0.04, 0.045, 0.04, 0.5; the third is
    raised to the second's. Twice 0.6 is capped at 1.
    """
    np.testing.assert_allclose(
        multiplicity.holm([0.02, 0.5, 0.01, 0.015]), [0.045, 0.5, 0.04, 0.045]
    )
    np.testing.assert_allclose(multiplicity.holm([0.6, 0.6]), [1, 1])
    np.testing.assert_allclose(multiplicity.holm([0.03]), [0.03])
    with pytest.raises(MetricError, match="between 0 and 1"):
        multiplicity.holm([0.1, np.nan])


def test_holm_rejects_what_the_procedure_rejects():
    """Holm's own words: reject in order while p_(i) <= alpha/(k - i + 1), and stop at the first
    that is not.
    """
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.random(6) ** 3
        rejected = np.zeros(6, dtype=bool)
        for i, test in enumerate(np.argsort(p)):
            if p[test] > 0.05 / (6 - i):
                break
            rejected[test] = True
        np.testing.assert_array_equal(multiplicity.holm(p.tolist()) <= 0.05, rejected)


def test_one_p_of_several_is_the_mean_of_cauchy_quantiles():
    """Against SciPy's Cauchy distribution; equal p stay what they are, and 1 hides no other."""
    p = [0.004, 0.2, 0.35, 0.9]
    expected = stats.cauchy.sf(np.mean(stats.cauchy.isf(p)))
    assert multiplicity.combined_p(p) == pytest.approx(expected)
    assert multiplicity.combined_p([0.03] * 7) == pytest.approx(0.03)
    assert multiplicity.combined_p([1.0]) == 1.0
    assert multiplicity.combined_p([0.001, 1.0]) < 0.01
    with pytest.raises(MetricError, match="found"):
        multiplicity.combined_p([])
    with pytest.raises(MetricError, match="above 0"):
        multiplicity.combined_p([0.0, 0.5])
