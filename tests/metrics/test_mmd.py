from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from synthbench.errors import MetricError
from synthbench.metrics import kernels, linear_mmd, mmd, mmd_permutation
from synthbench.metrics.inference import contracts, intervals, resampling
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.linear_mmd import MMDLinear
from synthbench.metrics.metric import CrossMetric, Metric, Studentized, Weights
from synthbench.metrics.mmd import KID, MMD2


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


def volumes(n, seed, shape=(4, 3, 5), shift=0.0):
    """Bright volumes that differ little: their discrepancy is about 1e-4 of their products."""
    rng = np.random.default_rng(seed)
    return (0.8 + shift + 0.05 * rng.normal(size=(n, *shape))).astype(np.float32)


def linear_statistic(x, y, subjects=None):
    """Through the metric's three steps, with a mask and settings that it has no use for."""
    metric, mask = MMDLinear(), np.zeros(x.shape[1:], dtype=bool)
    real, synth = (metric.measure(a, mask, {}) for a in (x, y))
    cross = metric.measure_across(x, y, mask, {})
    return metric.prepare(real, synth, cross=cross, subjects=subjects)


@pytest.mark.parametrize("metric", [MMD2(), KID(), MMDLinear()], ids=lambda metric: metric.name)
def test_they_are_metrics(metric):
    assert isinstance(metric, Metric)
    assert isinstance(metric, CrossMetric) == (metric.needs == "volumes")
    for words in (metric.name, metric.label, metric.formula, metric.sees, metric.misses):
        assert words.strip()


@pytest.mark.parametrize(
    "statistic",
    [
        MMD2().prepare(*sets()),
        KID().prepare(*sets()),
        linear_statistic(volumes(5, 0), volumes(4, 1)),
    ],
    ids=["mmd2", "kid", "mmd_linear"],
)
def test_their_statistics_are_studentized_and_give_each_image_its_share(statistic):
    """The variance is that of the mean of the contributions, summed over both sets."""
    assert isinstance(statistic, Studentized)
    assert isinstance(statistic, contracts.Linear)
    weights = resampling.bootstrap_weights(statistic.subjects, 20, np.random.default_rng(0))
    shares = statistic.contributions(weights)
    expected = sum(
        pairs_module.variance_of_mean(shares[role], weights[role], statistic.subjects[role])
        for role in ("real", "synth")
    )
    np.testing.assert_allclose(statistic.variance(weights), expected, rtol=1e-12)


@pytest.mark.parametrize("scans", [None, np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 6])])
def test_value_and_variance_at_once_are_those_one_by_one(scans):
    subjects = None if scans is None else {"real": scans}
    statistic = MMD2().prepare(*sets(), bandwidth=1.3, subjects=subjects)
    weights = resampling.bootstrap_weights(statistic.subjects, 50, np.random.default_rng(0))
    weights["real"][7] = statistic.subjects["real"] == 2  # one subject: undefined
    value, variance = statistic.value_and_variance(weights)
    assert np.isnan(value[7])
    assert np.isnan(variance[7])
    np.testing.assert_allclose(value, statistic.value(weights), rtol=1e-11)
    np.testing.assert_allclose(variance, statistic.variance(weights), rtol=1e-11)


def test_value_is_the_double_sum():
    x, y = sets()
    assert mmd.mmd2(x, y, 1.3) == pytest.approx(rbf_double_sums(x, y, 1.3), rel=1e-12)


def test_kid_is_the_double_sum_of_the_cubic_kernel():
    x, y = sets()
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    expected = double_sums(xx, yy, xy, np.arange(len(x)), np.arange(len(y)))
    assert mmd.kid(x, y) == pytest.approx(expected, rel=1e-12)
    labels = {"real": np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 6])}
    found = resampling.estimate(KID().prepare(x, y, subjects=labels))
    expected = double_sums(xx, yy, xy, labels["real"], np.arange(len(y)))
    assert found == pytest.approx(expected, rel=1e-12)


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
    found = resampling.estimate(MMD2().prepare(x, y, bandwidth=1.3, subjects=labels))
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

    weights = resampling.bootstrap_weights(once.subjects, 10, np.random.default_rng(0))
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
    weights = resampling.leave_one_out_weights(statistic.subjects, "real")
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


def test_identical_sets_have_the_closed_form_of_their_kernel():
    """U = 2 (s - q)/n, with s the mean kernel of distinct images and q that of an image with
    itself, as in the test above. For the linear kernel q - s is the trace of the covariance.
    """
    x, _ = sets()
    n = len(x)
    kernel = polynomial_kernel(x, x, degree=3, coef0=1)
    distinct = kernel[~np.eye(n, dtype=bool)].mean()
    expected = 2 * (distinct - np.diag(kernel).mean()) / n
    assert mmd.kid(x, x) == pytest.approx(expected, rel=1e-12)
    expected = -2 * np.trace(np.cov(x, rowvar=False)) / n
    assert linear_mmd.mmd_linear(x, x) == pytest.approx(expected, rel=1e-12)


def test_constant_features_have_a_discrepancy_of_zero_but_no_interval():
    """All kernel values are equal: the two means within are twice the mean across."""
    x, y = np.full((5, 3), 0.3), np.full((4, 3), 0.3)
    assert mmd.kid(x, y) == pytest.approx(0.0, abs=1e-15)
    assert linear_mmd.mmd_linear(x, y) == pytest.approx(0.0, abs=1e-15)
    assert mmd.mmd2(x, y, bandwidth=1.0) == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(MetricError, match="variance must be above zero"):
        intervals.studentized_interval(KID().prepare(x, y), seed=0)


def test_order_does_not_matter_and_the_sets_are_exchangeable():
    x, y = sets()
    value = mmd.mmd2(x, y, 1.3)
    assert mmd.mmd2(x[::-1], np.roll(y, 3, axis=0), 1.3) == pytest.approx(value, rel=1e-12)
    assert mmd.mmd2(y, x, 1.3) == pytest.approx(value, rel=1e-12)


def test_median_bandwidth_is_the_median_distance_of_distinct_images():
    x, _ = sets()
    expected = np.sqrt(np.median(pdist(x, "sqeuclidean")))
    assert kernels.median_bandwidth(x) == pytest.approx(expected, rel=1e-12)
    assert mmd.mmd2(x, x + 1) == pytest.approx(mmd.mmd2(x, x + 1, expected), rel=1e-12)


def test_median_bandwidth_leaves_out_pairs_within_a_subject():
    """Each image twice, one subject: the median over distinct subjects is as without copies."""
    x, _ = sets()
    doubled = kernels.median_bandwidth(np.repeat(x, 2, axis=0), np.repeat(np.arange(11), 2))
    assert doubled == pytest.approx(kernels.median_bandwidth(x), rel=1e-6)


def test_the_frozen_bandwidth_is_that_of_the_real_set():
    x, y = sets()
    frozen = MMD2().freeze(x, np.arange(11))
    assert frozen == {"bandwidth": kernels.median_bandwidth(x)}
    p = MMD2().p_value(x, y, permutations=99, seed=4, **frozen)
    assert p == mmd_permutation.permutation_p(x, y, frozen["bandwidth"], permutations=99, seed=4)
    with pytest.raises(MetricError, match="real features"):
        MMD2().freeze(None, None)


def test_blocks_do_not_change_what_is_computed(monkeypatch):
    x, y = sets()
    labels = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 6])
    whole = kernels.median_bandwidth(x, labels), mmd.mmd2(x, y), mmd.kid(x, y)
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", 35)
    in_blocks = kernels.median_bandwidth(x, labels), mmd.mmd2(x, y), mmd.kid(x, y)
    assert in_blocks == pytest.approx(whole, rel=1e-13)


@pytest.mark.parametrize("prepare", [MMD2().prepare, KID().prepare], ids=["mmd2", "kid"])
def test_no_more_than_three_kernel_matrices_are_held(prepare, monkeypatch):
    """At n = m = 700 each takes 3.9 MB; features and blocks take little here."""
    monkeypatch.setattr(kernels, "BLOCK_NUMBERS", 2**14)
    x, y = sets(n=700, m=700, d=4)
    tracemalloc.start()
    try:
        prepare(x, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3.4 * 8 * 700**2


def test_saturation_is_the_share_of_the_ceiling():
    """Points 0, 1 and s, s + 1 at bandwidth 1: the kernel within is exp(-1/2) in both sets, and
    across it is the mean of exp(-s^2/2) twice, exp(-(s+1)^2/2) and exp(-(s-1)^2/2).
    """
    x = np.array([[0.0], [1.0]])
    for s in (0.5, 2.0, 4.0):
        across = np.exp(-(np.array([s, s, s + 1, s - 1]) ** 2) / 2).mean()
        statistic = MMD2().prepare(x, x + s, bandwidth=1.0)
        assert statistic.saturation == pytest.approx(1 - across / np.exp(-0.5), rel=1e-12)
    assert statistic.saturated


def test_a_shift_of_two_and_a_half_bandwidths_saturates():
    """exp(-s^2 / (2 l^2)) = 0.05 at s = 2.45 l, in many dimensions and at equal spread."""
    x, y = sets(n=150, m=150, d=300, shift=0.0)
    bandwidth = kernels.median_bandwidth(x)
    for shift, saturated in ((2.2, False), (2.7, True)):
        moved = y + shift * bandwidth / np.sqrt(300)
        assert MMD2().prepare(x, moved, bandwidth=bandwidth).saturated is saturated


def test_only_the_bounded_kernel_saturates_and_a_tiny_bandwidth_is_named():
    x, y = sets()
    assert not hasattr(KID().prepare(x, y), "saturated")
    assert not hasattr(linear_statistic(volumes(3, 0), volumes(3, 1)), "saturated")
    with pytest.raises(MetricError, match=r"far too small. Use median_bandwidth"):
        _ = MMD2().prepare(x, y, bandwidth=1e-4).saturation


def test_distances_far_from_the_origin_keep_their_digits():
    x, y = sets()
    np.testing.assert_allclose(
        kernels.squared_distances(x + 1e6, y + 1e6), cdist(x, y, "sqeuclidean"), rtol=1e-7
    )


def test_linear_mmd_is_monais():
    monai_metrics = pytest.importorskip("monai.metrics")
    x, y = sets(n=8, m=8, d=27)
    as_volumes = [torch.from_numpy(a).reshape(8, 1, 3, 3, 3) for a in (x, y)]
    expected = float(monai_metrics.MMDMetric()(*as_volumes))
    assert linear_mmd.mmd_linear(x, y) == pytest.approx(expected, rel=1e-10)


def test_linear_mmd_of_volumes_is_monais():
    monai_metrics = pytest.importorskip("monai.metrics")
    x, y = volumes(8, 0), volumes(8, 1, shift=0.01)
    expected = float(
        monai_metrics.MMDMetric()(*(torch.from_numpy(a[:, None]).double() for a in (x, y)))
    )
    assert resampling.estimate(linear_statistic(x, y)) == pytest.approx(expected, rel=1e-9)


def test_linear_mmd_of_volumes_is_that_of_their_voxels():
    x, y = volumes(9, 0), volumes(7, 1, shift=0.01)
    expected = linear_mmd.mmd_linear(x.reshape(9, -1), y.reshape(7, -1))
    assert abs(expected) < 1e-3 * (x[0] ** 2).sum()
    assert resampling.estimate(linear_statistic(x, y)) == pytest.approx(expected, rel=1e-9)


def test_linear_mmd_of_volumes_keeps_its_interval_when_both_sets_grow_brighter():
    """A distance of means does not depend on the origin, and its interval should not either.
    Intensities on a grid of 2^-12 stay exact in float32 when a half is added.
    """
    x, y = (np.round(a * 4096) / 4096 for a in (volumes(9, 0) - 0.5, volumes(7, 1) - 0.5))
    dim, bright = (linear_statistic(x + s, y + s) for s in (np.float32(0), np.float32(0.5)))
    weights = resampling.bootstrap_weights(dim.subjects, 20, np.random.default_rng(0))
    scale = np.abs(dim.value(weights)).max()
    np.testing.assert_allclose(bright.value(weights), dim.value(weights), atol=1e-9 * scale)
    np.testing.assert_allclose(bright.variance(weights), dim.variance(weights), rtol=1e-9)


def test_linear_mmd_of_volumes_leaves_out_pairs_within_a_subject():
    """The double sum over other subjects, of half the negative squared distances (scipy's)."""
    x, y = volumes(5, 0), volumes(4, 1)
    labels = np.array([0, 0, 1, 2, 2])
    a, b = (v.reshape(len(v), -1).astype(float) for v in (x, y))
    xx, yy, xy = (-cdist(u, v, "sqeuclidean") / 2 for u, v in ((a, a), (b, b), (a, b)))
    expected = double_sums(xx, yy, xy, labels, np.arange(4))
    found = resampling.estimate(linear_statistic(x, y, {"real": labels}))
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"cross": None}, r"cross must hold.*measure_across"),
        ({"cross": np.eye(5)[:, :3]}, "real 5x5, synth 4x4, cross 5x3"),
        ({"real": np.ones((5, 4))}, "real 5x4"),
        ({"real": np.ones((1, 1)), "cross": np.ones((1, 4))}, "at least 2 images each"),
        ({"synth": np.full((4, 4), np.nan)}, "products of synth hold NaN"),
        ({"subjects": {"real": np.zeros(5, dtype=int)}}, "at least 2 subjects"),
    ],
)
def test_products_that_do_not_fit_are_named(change, found):
    arguments = {"real": np.eye(5), "synth": np.eye(4), "cross": np.ones((5, 4)), **change}
    with pytest.raises(MetricError, match=found):
        MMDLinear().prepare(arguments.pop("real"), arguments.pop("synth"), **arguments)


def test_linear_mmd_is_the_double_sum_at_unequal_sizes():
    x, y = sets()
    expected = double_sums(x @ x.T, y @ y.T, x @ y.T, np.arange(11), np.arange(9))
    assert linear_mmd.mmd_linear(x, y) == pytest.approx(expected, rel=1e-10)


def test_permutation_p_is_uniform_under_the_null():
    """An exact test rejects with probability at most 0.1 at level 0.1, and nearly that: 200
    seeded trials stay inside the central 99.9% of the binomial.
    """
    rng = np.random.default_rng(0)
    p = np.array(
        [
            mmd_permutation.permutation_p(
                rng.normal(size=(12, 3)), rng.normal(size=(10, 3)), 2.0, permutations=99, seed=s
            )
            for s in range(200)
        ]
    )
    low, high = stats.binom.interval(0.999, 200, 0.1)
    assert low <= (p <= 0.1).sum() <= high
    low, high = stats.binom.interval(0.999, 200, 0.5)
    assert low <= (p <= 0.5).sum() <= high


def test_permutation_p_is_that_of_the_definition():
    """Labellings drawn as documented, U by double sums, its maximum over the five bandwidths."""
    x, y = sets(n=6, m=5, shift=0.8)
    pooled = np.concatenate([x, y])
    observed = np.arange(11) < 6
    rng = np.random.default_rng(3)
    labels = np.vstack([observed, rng.permuted(np.tile(observed, (40, 1)), axis=1)])
    scores = []
    for bandwidth in 1.3 * np.array([0.25, 0.5, 1, 2, 4]):
        u = np.array([rbf_double_sums(pooled[r], pooled[~r], bandwidth) for r in labels])
        scores.append((u - u.mean()) / u.std())
    largest = np.max(scores, axis=0)
    expected = (1 + (largest[1:] >= largest[0] - 1e-9).sum()) / 41
    assert mmd_permutation.permutation_p(x, y, 1.3, permutations=40, seed=3) == pytest.approx(
        expected
    )


def test_permutation_p_is_smallest_for_sets_apart():
    """No labelling of separated sets but the observed one and its mirror reaches the observed
    statistic: p = 1/(B + 1).
    """
    x, y = sets(n=12, m=10, shift=20)
    assert mmd_permutation.permutation_p(x, y, 2.0, permutations=199, seed=0) == 1 / 200


def test_permutation_p_of_two_subjects_a_set_counts_the_labellings():
    """Two subjects per set have C(4, 2) = 6 labellings, two of which (observed, mirrored) give
    the observed split: p is near 1/3, however many scans each subject has.
    """
    rng = np.random.default_rng(0)
    centres = np.array([[0.0], [0.1], [9.0], [9.1]])
    scans = np.repeat(centres, 5, axis=0) + 0.001 * rng.normal(size=(20, 1))
    labels = {"real": np.repeat([0, 1], 5), "synth": np.repeat([0, 1], 5)}
    p = mmd_permutation.permutation_p(
        scans[:10], scans[10:], 1.0, permutations=600, seed=0, subjects=labels
    )
    low, high = stats.binom.interval(0.999, 600, 1 / 3)
    assert (1 + low) / 601 <= p <= (1 + high) / 601


FUNCTIONS = {
    "mmd2": mmd.mmd2,
    "kid": mmd.kid,
    "mmd_linear": linear_mmd.mmd_linear,
    "permutation_p": lambda x, y: mmd_permutation.permutation_p(x, y, 1.3, permutations=49, seed=0),
    "median_bandwidth": lambda x, y: kernels.median_bandwidth(x),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensors_are_taken_as_their_values_in_float64(name, dtype):
    x, y = (torch.from_numpy(a).to(dtype).requires_grad_() for a in sets())
    expected = FUNCTIONS[name](x.detach().double().numpy(), y.detach().double().numpy())
    assert FUNCTIONS[name](x, y) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), "real needs at least 2 images; found 1"),
        (np.full((5, 4), np.nan), np.zeros((5, 4)), "NaN or infinity in 5 of 5 rows"),
        (np.zeros(4), np.zeros((5, 4)), r"shape \(4,\)"),
    ],
)
def test_what_no_function_can_score_is_named(name, x, y, found):
    with pytest.raises(MetricError, match=found):
        FUNCTIONS[name](x, y)


@pytest.mark.parametrize("name", ["mmd2", "kid", "mmd_linear", "permutation_p"])
def test_sets_of_different_width_are_named(name):
    with pytest.raises(MetricError, match="real 4, synth 3"):
        FUNCTIONS[name](np.eye(5, 4), np.eye(5, 3))


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
        mmd_permutation.permutation_p(x, y, 1.0, seed=0, subjects=labels)
    with pytest.raises(MetricError, match="permutations"):
        mmd_permutation.permutation_p(x, y, 1.0, permutations=0, seed=0)
