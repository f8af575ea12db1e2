"""The variance of a mean over readers and cases, against brute force and analysis of variance."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.readers import mrmc


def answers(readers=4, cases=9, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.normal(0, 0.5, (readers, 1)) + rng.normal(0, 0.8, (1, cases))
    y = (latent + rng.normal(size=(readers, cases)) > 0).astype(float)
    y[rng.random(y.shape) < missing] = np.nan
    return y


def brute_force(y):
    """The unbiased variance of the mean, from every pair of answers."""
    given = [(r, c) for r, c in np.ndindex(*y.shape) if not np.isnan(y[r, c])]
    products: dict[tuple[bool, bool], list[float]] = {}
    for (r, c), (s, d) in itertools.product(given, given):
        products.setdefault((r == s, c == d), []).append(y[r, c] * y[s, d])
    second = sum(len(p) * np.mean(p) for p in products.values()) / len(given) ** 2
    return second - np.mean(products[False, False])


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_variance_is_that_of_all_pairs(missing):
    y = answers(missing=missing)
    found = mrmc.moments(y)
    assert found.value == pytest.approx(np.nanmean(y))
    assert found.readers + found.cases - found.residual == pytest.approx(brute_force(y))


def test_a_full_table_has_the_mean_squares_of_two_way_anova():
    """Mean squares from sums of squares, as any textbook on two-way layouts has them."""
    y = answers(5, 12, seed=3)
    n, (r, c) = y.size, y.shape
    by_reader = c * ((y.mean(1) - y.mean()) ** 2).sum() / (r - 1)
    by_case = r * ((y.mean(0) - y.mean()) ** 2).sum() / (c - 1)
    left = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
    rest = (left**2).sum() / ((r - 1) * (c - 1))
    found = mrmc.moments(y)
    assert [found.readers, found.cases, found.residual] == pytest.approx(
        [by_reader / n, by_case / n, rest / n]
    )


def test_many_tables_at_once_are_each_by_itself():
    tables = np.stack([answers(seed=s) for s in range(3)])
    together = mrmc.mean(tables, share=True).interval()
    apart = [mrmc.mean(table, share=True).interval() for table in tables]
    np.testing.assert_allclose(np.transpose(together), apart)


def test_readers_who_are_means_of_many_cases_have_the_interval_of_a_t_test():
    """Where the cases and the rest add nothing, it is the t-test over the readers' values."""
    per_reader = np.array([3.0, 4.0, 4.5, 6.0])
    y = np.tile(per_reader[:, None], (1, 50))
    low, high = mrmc.mean(y, share=False).interval()
    test = stats.ttest_1samp(per_reader, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((test.low, test.high))


def test_equivalence_is_where_the_interval_of_ninety_percent_lies_inside():
    for seed in range(30):
        found = mrmc.mean(answers(6, 60, seed=seed), share=True)
        low, high = found.interval(0.9)
        inside = bool(low > 0.3 and high < 0.7)
        assert inside == bool(found.equivalence_p(0.3, 0.7) < 0.05)


def test_all_right_is_no_proof_of_one():
    low, high = mrmc.mean(np.ones((3, 10)), share=True).interval()
    # Of 10 cases that could all be alike: Wilson's n / (n + z^2), not that of 30 answers.
    assert low == pytest.approx(10 / (10 + 1.96**2), abs=1e-4)
    assert high == pytest.approx(1)


def test_with_independent_answers_of_many_readers_it_is_wilsons_interval():
    """Each of 400 readers and 2 cases: the variance is close to p (1 - p) / n, and t to normal."""
    y = (np.random.default_rng(0).random((400, 2)) < 0.9).astype(float)
    expected = stats.binomtest(int(y.sum()), 800).proportion_ci(method="wilson")
    assert mrmc.mean(y, share=True).interval() == pytest.approx(
        (expected.low, expected.high), abs=0.004
    )


def test_a_difference_leaves_out_what_a_reader_has_in_both():
    """With readers who differ by a constant only, the difference has no variance by readers."""
    rng = np.random.default_rng(1)
    variances = []
    for _ in range(300):
        first, second = rng.normal(0, 3, (5, 1)) + rng.normal(0, 1, (2, 5, 40))
        found = mrmc.difference(first, second)
        assert found.value == pytest.approx(first.mean() - second.mean())
        variances.append(found.se**2)
    # 2 sd^2 / (R C), without the readers' 2 * 9 / R.
    assert np.mean(variances) == pytest.approx(2 / 200, rel=0.15)
    assert mrmc.difference(first, first).value == 0


@pytest.mark.parametrize("shape", [(1, 10), (4, 1)])
def test_one_reader_or_one_case_is_refused(shape):
    with pytest.raises(MetricError, match="at least 2 readers"):
        mrmc.mean(np.ones(shape), share=True)
