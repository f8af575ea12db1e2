"""Weighted means over images and pairs, their variances, and designs of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    intervals,
)
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.metric import Weights, ones


def test_variance_of_a_weighted_mean_is_that_of_the_repeated_values():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=8), np.array([0.0, 3, 1, 0, 2, 1, 1, 0])
    repeated = np.repeat(x, w.astype(int))
    found = pairs_module.variance_of_mean(x[None], w[None], np.arange(8))[0]
    assert found == pytest.approx(repeated.var(ddof=1) / len(repeated), rel=1e-12)


def test_within_mean_of_counts_leaves_out_pairs_of_one_subject():
    """Repeat the images by their counts, and average over pairs of different subjects."""
    rng = np.random.default_rng(0)
    pairs = rng.random((6, 6))
    pairs += pairs.T
    index = np.array([0, 0, 1, 2, 3, 3])
    counts = np.array([2, 2, 0, 3, 1, 1])
    rows = np.repeat(np.arange(6), counts)
    distinct = index[rows][:, None] != index[rows][None, :]
    expected = pairs[np.ix_(rows, rows)][distinct].mean()
    clean = pairs_module.distinct_pairs(pairs, index)
    found = pairs_module.within_mean(clean, counts[None].astype(float), index)[0]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [4, 5, 8, 11])
def test_a_pair_design_gives_each_image_equally_many_partners(n):
    """Degrees sum to an even number, so n and the partners cannot both be odd: then one image
    has a partner fewer. With n - 1 partners it is all pairs.
    """
    for partners in range(1, n):
        design = pairs_module.pair_design(np.arange(n), partners, seed=partners)
        np.testing.assert_array_equal(design, design.T)
        assert not design.diagonal().any()
        short = [partners - 1] if n % 2 and partners % 2 else []
        assert sorted(design.sum(axis=0)) == short + [partners] * (n - len(short))


def test_a_pair_design_pairs_no_images_of_one_subject():
    index = np.random.default_rng(0).permutation([0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6])
    for partners in range(1, 8):  # room for 12 images, at most 3 a subject: 12 - 6 + 1 = 7
        design = pairs_module.pair_design(index, partners, seed=0)
        assert (design.sum(axis=0) == partners).all()
        assert not design[index[:, None] == index[None, :]].any()
    for partners in (0, 8):
        with pytest.raises(MetricError, match="between 1 and 7 for 12 images, at most 3"):
            pairs_module.pair_design(index, partners, seed=0)


def test_every_pair_is_as_likely_in_a_design():
    """Each of the 15 pairs of 6 images is among the 6 chosen with probability 2/5."""
    drawn = [pairs_module.pair_design(np.arange(6), 2, seed=seed) for seed in range(2000)]
    shares = np.mean(drawn, axis=0)[np.triu_indices(6, k=1)]
    assert np.abs(shares - 0.4).max() < 4.5 * np.sqrt(0.4 * 0.6 / 2000)


def test_means_over_a_design_are_those_of_the_listed_pairs():
    """The weight of a pair is the product of its images' weights; what was not computed is
    never read.
    """
    rng = np.random.default_rng(0)
    index = np.arange(9)
    pairs = rng.random((9, 9))
    pairs += pairs.T
    design = pairs_module.pair_design(index, 4, seed=1)
    w = np.array([2.0, 0, 1, 1, 3, 0, 1, 1, 0])
    i, j = np.nonzero(np.triu(design))
    expected = np.average(pairs[i, j], weights=w[i] * w[j])
    unread = np.where(design, pairs, np.nan)
    assert pairs_module.within_mean(unread, w[None], index, design)[0] == pytest.approx(expected)
    rows = pairs_module.within_row_means(unread, w[None], index, design)[0]
    for image in range(9):
        others = design[image]
        weighted = np.average(pairs[image, others], weights=w[others])
        assert rows[image] == pytest.approx(weighted)


def test_an_image_without_partners_left_has_the_mean():
    design = pairs_module.pair_design(np.arange(5), 2, seed=0)
    alone = 0
    w = np.where(design[alone], 0.0, 1.0)
    rows = pairs_module.within_row_means(np.eye(5) + 2, w[None], np.arange(5), design)
    assert rows[0, alone] == pytest.approx(2)


def test_a_design_with_all_pairs_changes_nothing():
    rng = np.random.default_rng(0)
    index = np.arange(7)
    pairs = rng.random((7, 7))
    clean = pairs_module.distinct_pairs(pairs + pairs.T, index)
    w = rng.integers(0, 4, size=(5, 7)).astype(float)
    design = pairs_module.pair_design(index, 6, seed=0)
    for mean in (pairs_module.within_mean, pairs_module.within_row_means):
        with_weight = mean(clean, w, index, design)
        np.testing.assert_allclose(with_weight, mean(clean, w, index), rtol=1e-12)


@dataclass(frozen=True)
class DesignMean:
    """The mean over a design's pairs, as a metric over some of the pairs computes it."""

    pairs: np.ndarray
    design: np.ndarray
    subjects: Mapping[str, np.ndarray]

    def value(self, weights: Weights) -> np.ndarray:
        w, index = weights["real"], self.subjects["real"]
        return pairs_module.within_mean(self.pairs, w, index, self.design)

    def variance(self, weights: Weights) -> np.ndarray:
        w, index = weights["real"], self.subjects["real"]
        rows = pairs_module.within_row_means(self.pairs, w, index, self.design)
        return 4 * pairs_module.variance_of_mean(rows, w, index)


def test_the_variance_over_a_design_has_the_derived_expectation():
    """For K_ij = a_i + a_j + e_ij with var a = s, var e = t and p partners: in 4 var(g)/n, the
    expectation of var(g) is n/(n - 1) (s (1 + 1/p - 4/n) + t (1/p - 2/(n p))), and the mean
    itself varies by 4 s/n + 2 t/(n p). Means of 1500 draws are compared at 4.5 of their errors.
    """
    n, p, s, t, repeats = 30, 6, 1.0, 4.0, 1500
    rng = np.random.default_rng(0)
    design = pairs_module.pair_design(np.arange(n), p, seed=0)
    values, variances = np.empty(repeats), np.empty(repeats)
    for r in range(repeats):
        a, e = rng.normal(scale=np.sqrt(s), size=n), rng.normal(scale=np.sqrt(t / 2), size=(n, n))
        pairs = a[:, None] + a + e + e.T
        statistic = DesignMean(pairs, design, {"real": np.arange(n)})
        values[r] = statistic.value(ones(statistic))[0]
        variances[r] = statistic.variance(ones(statistic))[0]
    rows = n / (n - 1) * (s * (1 + 1 / p - 4 / n) + t * (1 / p - 2 / (n * p)))
    error = 4.5 * variances.std() / np.sqrt(repeats)
    assert variances.mean() == pytest.approx(4 * rows / n, abs=error)
    truth = 4 * s / n + 2 * t / (n * p)
    assert values.var() == pytest.approx(truth, rel=4.5 * np.sqrt(2 / repeats))
    assert truth < 4 * rows / n


def test_the_interval_over_a_design_covers():
    """exp(-|x - y|^2 / (2 l^2)) of normal x and y in d dimensions has the mean
    (l^2 / (l^2 + 2))^(d/2). If the interval covers 93%, 200 trials fall below the bound once in
    10,000 runs.
    """
    d, l2, trials, n = 3, 4.0, 200, 30
    truth = (l2 / (l2 + 2)) ** (d / 2)
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(trials):
        x = rng.normal(size=(n, d))
        pairs = np.exp(-((x[:, None] - x) ** 2).sum(axis=-1) / (2 * l2))
        design = pairs_module.pair_design(np.arange(n), 12, seed=trial)
        statistic = DesignMean(pairs, design, {"real": np.arange(n)})
        found = intervals.studentized_interval(statistic, resamples=200, seed=trial)
        covered += found.low <= truth <= found.high
    assert covered >= stats.binom.ppf(1e-4, trials, 0.93)
