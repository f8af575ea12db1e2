"""MMD^2 and KID, against double sums and closed forms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from synthbench.errors import MetricError
from synthbench.metrics import kernels, linear_mmd, mmd, mmd_permutation
from synthbench.metrics.inference import contracts, intervals, resampling
from synthbench.metrics.inference import pairs as pairs_module
from synthbench.metrics.linear_mmd import MMDLinear
from synthbench.metrics.metric import CrossMetric, Metric, Studentized, Weights
from synthbench.metrics.mmd import KID, MMD2
from tests.metrics.discrepancies import (
    double_sums,
    linear_statistic,
    rbf_double_sums,
    sets,
    volumes,
)


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
