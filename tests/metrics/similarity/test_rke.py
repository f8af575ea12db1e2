from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from synthbench.errors import MetricError
from synthbench.metrics.inference import intervals
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import Composite, Metric, ones
from synthbench.metrics.similarity.rke import RKE, rke
from synthbench.testing import check_metric


def sets(n=30, m=30, d=8, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), spread * rng.normal(size=(m, d))


def by_eigenvalues(x, bandwidth):
    """The exponential of the order-2 Renyi entropy of K / n: 1 / sum of squared eigenvalues."""
    kernel = np.exp(-squareform(pdist(x, "sqeuclidean")) / (2 * bandwidth**2))
    eigenvalues = np.linalg.eigvalsh(kernel / len(x))
    return float(np.exp(-np.log((eigenvalues**2).sum())))


def test_it_is_a_sound_metric():
    assert isinstance(RKE(), Metric)
    check_metric(RKE())


@pytest.mark.parametrize("bandwidth", [0.3, 1.0, 4.0])
def test_the_number_is_that_of_the_renyi_entropy_of_order_2(bandwidth):
    x, _ = sets()
    assert rke(x, bandwidth) == pytest.approx(by_eigenvalues(x, bandwidth), rel=1e-10)


def test_the_parts_are_the_numbers_of_the_sets_where_sizes_are_equal():
    x, y = sets(spread=0.7)
    bandwidth = median_bandwidth(x) / 2
    statistic = RKE().prepare(x, y)
    assert isinstance(statistic, Composite)
    found = {key: estimate(part.statistic) for key, part in statistic.parts().items()}
    assert found["real"] == pytest.approx(rke(x, bandwidth), rel=1e-10)
    assert found["synth"] == pytest.approx(rke(y, bandwidth), rel=1e-10)
    assert estimate(statistic) == pytest.approx(found["real"] - found["synth"], rel=1e-10)


def test_clusters_of_copies_count_as_one_each():
    """Three equal clusters far apart: three effective brains, whatever the number of copies."""
    x = np.repeat([[0.0], [50.0], [100.0]], 7, axis=0)
    assert rke(x, bandwidth=1.0) == pytest.approx(3, rel=1e-12)
    assert rke(x[:1].repeat(5, axis=0), bandwidth=1.0) == pytest.approx(1)
    assert rke(np.arange(6.0)[:, None] * 50, bandwidth=1.0) == pytest.approx(6)


def test_both_numbers_are_stated_for_the_real_number_of_subjects():
    """Sets of one distribution and of unequal sizes have a gap of about zero: the mean over draws
    is within four of its standard errors.
    """
    gaps = []
    for seed in range(60):
        x, y = sets(60, 15, seed=seed)
        gaps.append(estimate(RKE().prepare(x, y, bandwidth=1.5, images=60)))
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(len(gaps)) + 0.5
    alone = rke(x, 1.5) - rke(y, 1.5)
    assert alone > 5  # the plain numbers differ, because 15 images cannot count as more than 15


def test_less_spread_or_fewer_modes_have_a_gap_above_zero_and_more_spread_below():
    x, _ = sets(60)
    rng = np.random.default_rng(9)
    gaps = [
        estimate(RKE().prepare(x, y))
        for y in (
            rng.normal(size=(60, 8)) * 1.3,
            rng.normal(size=(60, 8)),
            rng.normal(size=(60, 8)) * 0.7,
            rng.normal(size=(60, 8)) * 0.4,
        )
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] < 0 < gaps[2]
    few = rng.normal(size=(6, 8))[rng.integers(6, size=60)]
    assert estimate(RKE().prepare(x, few)) > gaps[2]


def test_the_variance_is_about_that_of_the_jackknife():
    x, y = sets(spread=0.8)
    statistic = RKE().prepare(x, y)
    se = float(np.sqrt(statistic.variance(ones(statistic))[0]))
    assert se == pytest.approx(intervals.jackknife_se(statistic), rel=0.2)


def test_the_settings_come_from_the_real_set_alone():
    x, _ = sets(12)
    subjects = np.repeat(np.arange(6), 2)
    frozen = RKE().freeze(x, subjects)
    assert frozen == {"bandwidth": pytest.approx(median_bandwidth(x, subjects) / 2), "images": 6}


def test_scans_of_one_subject_are_no_pair():
    x, y = sets(12, 12)
    doubled = np.repeat(x, 2, axis=0)
    subjects = {"real": np.repeat(np.arange(12), 2)}
    found = RKE().prepare(doubled, y, subjects=subjects, bandwidth=1.5, images=12)
    expected = RKE().prepare(x, y, bandwidth=1.5, images=12)
    assert estimate(found) == pytest.approx(estimate(expected), rel=1e-12)


def test_what_cannot_be_scored_is_refused():
    x, y = sets(8, 8)
    with pytest.raises(MetricError, match="real needs images of at least 2 subjects"):
        RKE().prepare(x, y, subjects={"real": np.zeros(8)}, bandwidth=1.0)
    with pytest.raises(MetricError, match="images must be at least 2; found 1"):
        RKE().prepare(x, y, images=1)
    with pytest.raises(MetricError, match="bandwidth must be a positive number"):
        rke(x, 0.0)
    with pytest.raises(MetricError, match="its bandwidth is frozen from real features"):
        RKE().freeze(None, None)
