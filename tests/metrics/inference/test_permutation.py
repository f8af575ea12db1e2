"""The permutation test of any statistic, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference import (
    permutation,
)
from synthbench.metrics.inference.resampling import DRAWS
from synthbench.metrics.mmd import MMD2
from tests.metrics.inference.means import difference_of_means, mean_of


@pytest.mark.parametrize(
    ("direction", "alternative"), [("lower", "greater"), ("higher", "less"), ("zero", "two-sided")]
)
def test_permutation_p_is_scipys(direction, alternative):
    """The p of all C(12, 5) = 792 labellings: 4000 random ones are within 4.5 standard
    errors of it.
    """
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=5), rng.normal(size=7) + 0.5
    exact = stats.permutation_test(
        (y, x), lambda a, b: a.mean() - b.mean(), alternative=alternative, n_resamples=np.inf
    ).pvalue
    assert 0.02 < exact < 0.98
    statistic = difference_of_means(np.concatenate([x, y]))
    found = permutation.permutation_test(
        statistic, np.arange(12) < 5, permutations=4000, seed=0, direction=direction
    )
    sides = 2 if direction == "zero" else 1
    error = 4.5 * sides * np.sqrt(exact / sides * (1 - exact / sides) / 4000)
    assert found == pytest.approx(exact, abs=error)


def test_a_permutation_moves_whole_subjects():
    """Both images of each of 6 subjects are alike, and subjects 0 to 2 are far from 3 to 5. The
    observed labelling is the furthest of the C(6, 3) = 20, so p is near 1/20; image by image it
    would be near 1/924.
    """
    x = np.repeat([0.0, 0.1, 0.2, 5.0, 5.1, 5.2], 2)
    statistic = difference_of_means(x, np.repeat(np.arange(6), 2))
    p = permutation.permutation_test(statistic, x < 1, permutations=2000, seed=0)
    assert p == pytest.approx(1 / 20, abs=4.5 * np.sqrt(0.05 * 0.95 / 2000))


def test_the_permutation_test_refuses_what_it_cannot_label():
    statistic = difference_of_means(np.arange(4.0), np.array([0, 0, 1, 2]))
    real = np.array([True, True, False, False])
    with pytest.raises(MetricError, match="found 1 in both sets"):
        permutation.permutation_test(statistic, ~real[[0, 2, 1, 3]], seed=0)
    with pytest.raises(MetricError, match="of int64"):
        permutation.permutation_test(statistic, real.astype(int), seed=0)
    with pytest.raises(MetricError, match="at least 1; found 0"):
        permutation.permutation_test(statistic, real, permutations=0, seed=0)
    with pytest.raises(MetricError, match=r"Prepare it with \(pooled, pooled\)"):
        permutation.permutation_test(mean_of(np.arange(4.0)), real, seed=0)
    with pytest.raises(MetricError, match="undefined on a labelling"):
        permutation.permutation_test(MMD2().prepare(np.eye(4), np.eye(4)), np.arange(4) < 1, seed=0)


def test_copies_of_an_image_change_no_p():
    """Equally many images of each subject are drawn, and here all of a subject's are equal. So p
    is that of `DRAWS` times as many labellings of single images.
    """
    x = np.random.default_rng(0).normal(size=11)
    index = np.array([*range(11), 0, 0, 3, 10, 10])
    alone = permutation.permutation_test(
        difference_of_means(x), np.arange(11) < 5, permutations=50 * DRAWS, seed=0
    )
    p = permutation.permutation_test(
        difference_of_means(x[index], index), index < 5, permutations=50, seed=0
    )
    assert p == pytest.approx(alone)
