from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from synthbench.errors import MetricError
from synthbench.metrics import inference, mmd
from synthbench.metrics.metric import Metric, Studentized, Weights
from synthbench.metrics.mmd import MMD2


def sets(n=11, m=9, d=4, shift=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) + shift


def double_sums(kxx, kyy, kxy, x_id, y_id):
    """Mean over ordered pairs of rows of different originals, less twice the mean across."""

    def within(k, ids):
        pairs = [(i, j) for i in range(len(k)) for j in range(len(k)) if ids[i] != ids[j]]
        return sum(k[i, j] for i, j in pairs) / len(pairs)

    return within(kxx, x_id) + within(kyy, y_id) - 2 * kxy.mean()


def rbf_double_sums(x, y, bandwidth, x_id=None, y_id=None):
    gamma = 1 / (2 * bandwidth**2)
    return double_sums(
        rbf_kernel(x, gamma=gamma),
        rbf_kernel(y, gamma=gamma),
        rbf_kernel(x, y, gamma=gamma),
        np.arange(len(x)) if x_id is None else x_id,
        np.arange(len(y)) if y_id is None else y_id,
    )


def test_it_is_a_metric_and_its_statistic_is_studentized():
    assert isinstance(MMD2(), Metric)
    assert isinstance(MMD2().prepare(*sets()), Studentized)


def test_value_is_the_double_sum():
    x, y = sets()
    assert mmd.mmd2(x, y, 1.3) == pytest.approx(rbf_double_sums(x, y, 1.3), rel=1e-12)


def test_kid_is_the_double_sum_of_the_cubic_kernel():
    x, y = sets()
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    expected = double_sums(xx, yy, xy, np.arange(len(x)), np.arange(len(y)))
    assert mmd.kid(x, y) == pytest.approx(expected, rel=1e-12)


def test_counts_are_repeated_rows_without_pairs_of_copies():
    x, y = sets()
    rng = np.random.default_rng(1)
    w, v = rng.multinomial(11, np.full(11, 1 / 11)), rng.multinomial(9, np.full(9, 1 / 9))
    x_id, y_id = np.repeat(np.arange(11), w), np.repeat(np.arange(9), v)
    weights = {"real": w[None].astype(float), "synth": v[None].astype(float)}
    found = MMD2().prepare(x, y, bandwidth=1.3).value(weights)[0]
    assert found == pytest.approx(rbf_double_sums(x[x_id], y[y_id], 1.3, x_id, y_id), rel=1e-12)


def test_pairs_within_a_subject_are_left_out():
    x, y = sets()
    labels = {"real": np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 6])}
    found = inference.estimate(MMD2().prepare(x, y, bandwidth=1.3, subjects=labels))
    assert found == pytest.approx(rbf_double_sums(x, y, 1.3, labels["real"]), rel=1e-12)


def test_variance_is_four_times_that_of_both_mean_rows():
    """V = 4 var(g)/n + 4 var(h)/m, g_i = mean_j k(x_i, x_j) - mean_j k(x_i, y_j)."""
    x, y = sets()
    gamma = 1 / (2 * 1.3**2)
    kxx, kyy, kxy = (rbf_kernel(a, b, gamma=gamma) for a, b in ((x, x), (y, y), (x, y)))
    g = [np.delete(kxx[i], i).mean() - kxy[i].mean() for i in range(11)]
    h = [np.delete(kyy[j], j).mean() - kxy[:, j].mean() for j in range(9)]
    expected = 4 * np.var(g, ddof=1) / 11 + 4 * np.var(h, ddof=1) / 9
    statistic = MMD2().prepare(x, y, bandwidth=1.3)
    weights = {"real": np.ones((1, 11)), "synth": np.ones((1, 9))}
    assert statistic.variance(weights)[0] == pytest.approx(expected, rel=1e-12)


def test_repeated_scans_leave_value_and_variance_as_they_are():
    """Two identical scans of each subject: the same distribution from the same subjects."""
    x, y = sets()
    labels = {"real": np.repeat(np.arange(11), 2), "synth": np.repeat(np.arange(9), 2)}
    once = MMD2().prepare(x, y, bandwidth=1.3)
    twice = MMD2().prepare(
        np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0), bandwidth=1.3, subjects=labels
    )

    def doubled(weights: Weights) -> Weights:
        return {role: np.repeat(w, 2, axis=1) for role, w in weights.items()}

    weights = inference.bootstrap_weights(once.subjects, 10, np.random.default_rng(0))
    np.testing.assert_allclose(twice.value(doubled(weights)), once.value(weights), rtol=1e-10)
    np.testing.assert_allclose(twice.variance(doubled(weights)), once.variance(weights), rtol=1e-10)


def test_leave_one_out_has_its_closed_form():
    """U_{-i} = (S_x - 2 r_i)/((n-1)(n-2)) + S_y/(m(m-1)) - 2 (C - c_i)/((n-1) m)."""
    x, y = sets()
    n, m = len(x), len(y)
    statistic = MMD2().prepare(x, y, bandwidth=1.3)
    gamma = 1 / (2 * 1.3**2)
    kxx, kyy, kxy = (rbf_kernel(a, b, gamma=gamma) for a, b in ((x, x), (y, y), (x, y)))
    r, c = kxx.sum(axis=1) - 1, kxy.sum(axis=1)
    expected = (
        (r.sum() - 2 * r) / ((n - 1) * (n - 2))
        + (kyy.sum() - m) / (m * (m - 1))
        - 2 * (c.sum() - c) / ((n - 1) * m)
    )
    weights = inference.leave_one_out_weights(statistic.subjects, "real")
    np.testing.assert_allclose(statistic.value(weights), expected, rtol=1e-12)


def test_identical_sets_are_below_zero():
    """With S the sum of off-diagonal kernel values: U = 2 S/(n(n-1)) - 2 (S + n)/n^2, negative
    because S < n(n-1): only the cross term holds the pairs of an image with itself.
    """
    x, _ = sets()
    n = len(x)
    off_diagonal = 2 * np.exp(-pdist(x, "sqeuclidean") / 2).sum()
    expected = 2 * off_diagonal / (n * (n - 1)) - 2 * (off_diagonal + n) / n**2
    assert mmd.mmd2(x, x, 1.0) == pytest.approx(expected, rel=1e-12)
    assert expected < 0


def test_order_does_not_matter_and_the_sets_are_exchangeable():
    x, y = sets()
    value = mmd.mmd2(x, y, 1.3)
    assert mmd.mmd2(x[::-1], np.roll(y, 3, axis=0), 1.3) == pytest.approx(value, rel=1e-12)
    assert mmd.mmd2(y, x, 1.3) == pytest.approx(value, rel=1e-12)


def test_median_bandwidth_is_the_median_distance_of_distinct_images():
    x, _ = sets()
    expected = np.sqrt(np.median(pdist(x, "sqeuclidean")))
    assert mmd.median_bandwidth(x) == pytest.approx(expected, rel=1e-12)
    assert mmd.mmd2(x, x + 1) == pytest.approx(mmd.mmd2(x, x + 1, expected), rel=1e-12)


def test_median_bandwidth_leaves_out_pairs_within_a_subject():
    """Each image twice, one subject: the median over distinct subjects is as without copies."""
    x, _ = sets()
    doubled = mmd.median_bandwidth(np.repeat(x, 2, axis=0), np.repeat(np.arange(11), 2))
    assert doubled == pytest.approx(mmd.median_bandwidth(x), rel=1e-6)


def test_the_frozen_bandwidth_is_that_of_the_real_set():
    x, y = sets()
    frozen = MMD2().freeze(x, np.arange(11))
    assert frozen == {"bandwidth": mmd.median_bandwidth(x)}
    p = MMD2().p_value(x, y, permutations=99, seed=4, **frozen)
    assert p == mmd.permutation_p(x, y, frozen["bandwidth"], permutations=99, seed=4)
    with pytest.raises(MetricError, match="real features"):
        MMD2().freeze(None, None)


def test_distances_far_from_the_origin_keep_their_digits():
    x, y = sets()
    np.testing.assert_allclose(
        mmd.squared_distances(x + 1e6, y + 1e6), cdist(x, y, "sqeuclidean"), rtol=1e-7
    )


def test_linear_mmd_is_monais():
    monai_metrics = pytest.importorskip("monai.metrics")
    x, y = sets(n=8, m=8, d=27)
    as_volumes = [torch.from_numpy(a).reshape(8, 1, 3, 3, 3) for a in (x, y)]
    expected = float(monai_metrics.MMDMetric()(*as_volumes))
    assert mmd.mmd_linear(x, y) == pytest.approx(expected, rel=1e-10)


def test_linear_mmd_is_the_double_sum_at_unequal_sizes():
    x, y = sets()
    expected = double_sums(x @ x.T, y @ y.T, x @ y.T, np.arange(11), np.arange(9))
    assert mmd.mmd_linear(x, y) == pytest.approx(expected, rel=1e-10)


def test_permutation_p_is_uniform_under_the_null():
    """An exact test rejects with probability at most 0.1 at level 0.1, and nearly that: 200
    seeded trials stay inside the central 99.9% of the binomial.
    """
    rng = np.random.default_rng(0)
    p = np.array(
        [
            mmd.permutation_p(
                rng.normal(size=(12, 3)), rng.normal(size=(10, 3)), 2.0, permutations=99, seed=s
            )
            for s in range(200)
        ]
    )
    low, high = stats.binom.interval(0.999, 200, 0.1)
    assert low <= (p <= 0.1).sum() <= high
    low, high = stats.binom.interval(0.999, 200, 0.5)
    assert low <= (p <= 0.5).sum() <= high


def test_permutation_p_is_smallest_for_sets_apart():
    """No labelling of separated sets but the observed one and its mirror reaches the observed
    statistic: p = 1/(B + 1).
    """
    x, y = sets(n=12, m=10, shift=20)
    assert mmd.permutation_p(x, y, 2.0, permutations=199, seed=0) == 1 / 200


def test_permutation_p_of_two_subjects_a_set_counts_the_labellings():
    """Two subjects a set have C(4, 2) = 6 labellings, two of which (observed, mirrored) give
    the observed split: p is near 1/3, however many scans each subject has.
    """
    rng = np.random.default_rng(0)
    centres = np.array([[0.0], [0.1], [9.0], [9.1]])
    scans = np.repeat(centres, 5, axis=0) + 0.001 * rng.normal(size=(20, 1))
    labels = {"real": np.repeat([0, 1], 5), "synth": np.repeat([0, 1], 5)}
    p = mmd.permutation_p(scans[:10], scans[10:], 1.0, permutations=600, seed=0, subjects=labels)
    low, high = stats.binom.interval(0.999, 600, 1 / 3)
    assert (1 + low) / 601 <= p <= (1 + high) / 601


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"real": np.zeros((1, 4))}, "at least 2 images"),
        ({"synth": np.full((5, 4), np.nan)}, "NaN"),
        ({"synth": np.zeros((5, 3))}, "real 4, synth 3"),
        ({"real": np.full((6, 4), 0.3)}, "above zero"),
        ({"bandwidth": 0.0}, "positive"),
        ({"bandwidth": float("nan")}, "positive"),
        ({"subjects": {"real": np.zeros(11, dtype=int)}}, "at least 2 subjects"),
    ],
)
def test_what_cannot_be_scored_is_named(change, found):
    x, y = sets()
    arguments = {"real": x, "synth": y, **change}
    with pytest.raises(MetricError, match=found):
        MMD2().prepare(**arguments)


def test_the_permutation_test_refuses_a_subject_in_both_sets():
    x, y = sets(n=3, m=3)
    labels = {"real": np.array(["a", "b", "c"]), "synth": np.array(["c", "d", "e"])}
    with pytest.raises(MetricError, match="first: 'c'"):
        mmd.permutation_p(x, y, 1.0, seed=0, subjects=labels)
    with pytest.raises(MetricError, match="permutations"):
        mmd.permutation_p(x, y, 1.0, permutations=0, seed=0)
