"""Mean similarities, their variances, and designs of pairs."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.inference import resampling
from synthbench.metrics.msssim import MSSSIM
from synthbench.metrics.similarity.diversity import CrossSimilarity, cross_design
from tests.metrics.similarity.examples import cross_statistic, pair_matrices


def test_the_gap_shows_its_parts():
    real, synth, cross = pair_matrices()
    assert set(MSSSIM().prepare(real, synth).parts()) == {"synth", "real"}
    gap = MSSSIM().prepare(real, synth, cross=cross)
    parts = {key: resampling.estimate(part.statistic) for key, part in gap.parts().items()}
    assert parts["synth"] - parts["real"] == pytest.approx(resampling.estimate(gap))
    assert parts["cross"] == pytest.approx(cross.mean())


def test_means_over_pairs_their_gap_and_the_cross():
    real, synth, cross = pair_matrices()
    gap = MSSSIM().prepare(real, synth)
    within_real = real[np.triu_indices(9, 1)].mean()
    within_synth = synth[np.triu_indices(7, 1)].mean()
    assert resampling.estimate(gap.real) == pytest.approx(within_real)
    assert resampling.estimate(gap.synth) == pytest.approx(within_synth)
    assert resampling.estimate(gap) == pytest.approx(within_synth - within_real)
    assert resampling.estimate(cross_statistic(real, synth, cross)) == pytest.approx(cross.mean())


def test_variances_of_pair_means():
    """Order 2: 4 var(g)/n with g the mean over the others; order (1, 1): no factor of 4."""
    real, synth, cross = pair_matrices()

    def within(pairs):
        rows = [np.delete(pairs[i], i).mean() for i in range(len(pairs))]
        return 4 * np.var(rows, ddof=1) / len(pairs)

    gap = MSSSIM().prepare(real, synth)
    weights = {"real": np.ones((1, 9)), "synth": np.ones((1, 7))}
    assert gap.variance(weights)[0] == pytest.approx(within(real) + within(synth))
    across = cross.mean(axis=1).var(ddof=1) / 9 + cross.mean(axis=0).var(ddof=1) / 7
    assert cross_statistic(real, synth, cross).variance(weights)[0] == pytest.approx(across)


def test_variance_is_that_of_the_mean_of_contributions():
    real, synth, cross = pair_matrices()
    weights = {"real": np.ones((1, 9)), "synth": np.ones((1, 7))}
    for statistic in (MSSSIM().prepare(real, synth), cross_statistic(real, synth, cross)):
        terms = statistic.contributions(weights)
        expected = sum(np.var(c[0], ddof=1) / c.shape[1] for c in terms.values())
        assert statistic.variance(weights)[0] == pytest.approx(expected)


def test_gap_of_a_set_with_itself_is_zero():
    """The diagonal of its matrix is never met between the two sides of a floor: over all 2 x 2
    splits of four images the mean across is that over all pairs of distinct images.
    """
    real, _, _ = pair_matrices(n=4)
    np.fill_diagonal(real, 1)
    assert resampling.estimate(MSSSIM().prepare(real, real, cross=real)) == 0
    sides = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], dtype=float)
    between = cross_statistic(real, real, real).value({"real": sides, "synth": 1 - sides})
    assert between.mean() == pytest.approx(real[np.triu_indices(4, 1)].mean())


def test_the_variance_across_includes_the_design():
    """For K_ij = a_i + b_j + e_ij of variances A, B, E, with p partners per row and q a column,
    the mean over the design varies by A/n + B/m + E/(n p); row and column means by A + (B + E)/p
    and B + (A + E)/q. So E[V] exceeds it by (B + E)/(n p) + (A + E)/(m q) - E/(n p).
    """
    n, m, p, q = 30, 20, 4, 6
    rng = np.random.default_rng(0)
    design = cross_design(n, m, p, seed=1)
    index = {"real": np.arange(n), "synth": np.arange(m)}
    weights = {"real": np.ones((1, n)), "synth": np.ones((1, m))}
    values, variances = [], []
    for _ in range(1000):
        a, b, e = rng.normal(size=(n, 1)), rng.normal(size=m), rng.normal(size=(n, m))
        statistic = CrossSimilarity(np.where(design, a + b + e, 0), index, design)
        values.append(statistic.value(weights)[0])
        variances.append(statistic.variance(weights)[0])
    truth = 1 / n + 1 / m + 1 / (n * p)
    assert np.var(values) == pytest.approx(truth, rel=0.15)
    expected = 1 / n + 1 / m + 2 / (n * p) + 2 / (m * q)
    assert np.mean(variances) == pytest.approx(expected, rel=0.05)


def test_scans_of_one_subject_are_no_pairs():
    real, synth, _ = pair_matrices()
    labels = np.array([0, 0, 1, 2, 3, 4, 5, 5, 5])
    distinct = labels[:, None] != labels[None, :]
    gap = MSSSIM().prepare(real, synth, subjects={"real": labels})
    assert resampling.estimate(gap.real) == pytest.approx(real[distinct].mean())


@pytest.mark.parametrize(
    ("real", "found"),
    [
        (np.ones((3, 4)), "square"),
        (np.ones((1, 1)), "at least 2"),
        (np.array([[1, 0.2], [0.3, 1]]), "symmetric"),
        (np.full((2, 2), np.nan), "finite"),
        (np.full((2, 2), np.inf), "finite"),
    ],
)
def test_matrices_that_hold_no_pairs_are_named(real, found):
    with pytest.raises(MetricError, match=found):
        MSSSIM().prepare(real, np.eye(3))
