from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from synthbench.errors import MetricError
from synthbench.metrics import subjects as subjects_module
from synthbench.metrics.fid import FID, GramFrechet, MomentFrechet, effective_rank, fid
from synthbench.metrics.inference import intervals, resampling
from synthbench.metrics.metric import Metric


def sets(n=30, m=26, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) @ np.diag(np.linspace(0.5, 2, d)) + 0.3


def textbook(x, y):
    """|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2)), by a matrix square root."""
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return shift @ shift + np.trace(sx + sy) - 2 * np.trace(scipy.linalg.sqrtm(sx @ sy).real)


def gram(x, y, subjects=None):
    index = subjects_module.subject_index(subjects, real=len(x), synth=len(y))
    origin = np.concatenate([x, y]).mean(axis=0)
    a, b = x - origin, y - origin
    return GramFrechet(a @ a.T, b @ b.T, a @ b.T, index)


def covariances(x, y, subjects=None):
    return MomentFrechet(x, y, subjects_module.subject_index(subjects, real=len(x), synth=len(y)))


def test_it_is_a_metric_and_picks_the_cheaper_route():
    assert isinstance(FID(), Metric)
    assert isinstance(FID().prepare(*sets(d=5)), MomentFrechet)
    assert isinstance(FID().prepare(*sets(d=40)), GramFrechet)


@pytest.mark.parametrize("route", [gram, covariances])
def test_value_is_the_matrix_square_roots(route):
    x, y = sets()
    assert resampling.estimate(route(x, y)) == pytest.approx(textbook(x, y), rel=1e-6)


def test_value_with_more_features_than_images():
    """Tr (S_x S_y)^(1/2) is the sum of roots of the eigenvalues of S_x S_y, found here without
    its square root, which is singular.
    """
    x, y = sets(n=12, m=10, d=40)
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    roots = np.sqrt(np.maximum(scipy.linalg.eigvals(sx @ sy).real, 0)).sum()
    expected = shift @ shift + np.trace(sx) + np.trace(sy) - 2 * roots
    assert fid(x, y) == pytest.approx(expected, rel=1e-6)
    assert resampling.estimate(covariances(x, y)) == pytest.approx(expected, rel=1e-6)


def test_in_one_dimension_it_is_the_distance_of_means_and_deviations():
    """(mu_x - mu_y)^2 + (s_x - s_y)^2: here 3^2 + (sqrt 2 - sqrt 8)^2 = 11."""
    assert fid(np.array([[0.0], [2.0]]), np.array([[2.0], [6.0]])) == pytest.approx(11.0)


@pytest.mark.parametrize("d", [5, 60])
def test_identical_sets_are_at_zero(d):
    x, _ = sets(d=d)
    assert fid(x, x) == pytest.approx(0.0, abs=1e-9 * d)


@pytest.mark.parametrize("d", [5, 60])
def test_neither_order_nor_origin_nor_side_matters(d):
    x, y = sets(d=d)
    value = fid(x, y)
    assert fid(y, x) == pytest.approx(value, rel=1e-9)
    assert fid(x[::-1], np.roll(y, 3, axis=0)) == pytest.approx(value, rel=1e-9)
    assert fid(x + 1000, y + 1000) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("route", "d"), [(gram, 5), (gram, 60), (covariances, 5)])
def test_counts_are_repeated_rows(route, d):
    x, y = sets(d=d)
    statistic = route(x, y)
    weights = resampling.bootstrap_weights(statistic.subjects, 70, np.random.default_rng(0))
    found = statistic.value(weights)
    for b in (0, 33, 69):
        rows = np.repeat(np.arange(30), weights["real"][b].astype(int))
        columns = np.repeat(np.arange(26), weights["synth"][b].astype(int))
        assert found[b] == pytest.approx(fid(x[rows], y[columns]), rel=1e-6)


def test_large_resamples_are_taken_fewer_at_a_time(monkeypatch):
    x, y = sets(d=60)
    statistic = gram(x, y)
    weights = resampling.bootstrap_weights(statistic.subjects, 20, np.random.default_rng(0))
    together = statistic.value(weights)
    monkeypatch.setattr(sys.modules[FID.__module__], "GROUP_NUMBERS", 3 * 30 * 26)
    np.testing.assert_allclose(statistic.value(weights), together, rtol=1e-12)
    monkeypatch.setattr(sys.modules[FID.__module__], "GROUP_NUMBERS", 1)
    np.testing.assert_allclose(statistic.value(weights), together, rtol=1e-12)


@pytest.mark.parametrize(("route", "d"), [(gram, 5), (gram, 60), (covariances, 5)])
def test_influence_is_the_numeric_derivative(route, d):
    """Moving weight e from image j to image i changes the value by e (g_i - g_j)/n."""
    x, y = sets(d=d)
    statistic = route(x, y)
    step = 1e-5
    for role, g in statistic.influence().items():
        n = len(g)
        directions = np.eye(n) - np.roll(np.eye(n), 1, axis=1)

        def moved(sign, role=role, n=n, directions=directions):
            weights = {"real": np.ones((n, 30)), "synth": np.ones((n, 26))}
            weights[role] = 1 + sign * step * directions
            return statistic.value(weights)

        numeric = (moved(1) - moved(-1)) / (2 * step)
        scale = np.abs(g).max() / n
        np.testing.assert_allclose(numeric, (g - np.roll(g, -1)) / n, atol=1e-5 * scale)


def test_the_two_routes_have_one_influence():
    x, y = sets()
    a, b = gram(x, y).influence(), covariances(x, y).influence()
    for role in a:
        np.testing.assert_allclose(
            a[role] - a[role].mean(), b[role] - b[role].mean(), rtol=1e-8, atol=1e-8
        )


def test_jackknife_leaves_out_each_subject_of_both_sets():
    """SE^2 = sum over sets of (N-1)/N sum (U_-s - mean)^2, by scoring without each subject."""
    x, y = sets(n=10, m=8, d=30)
    labels = np.array([0, 0, 1, 2, 3, 4, 4, 4, 5, 6])
    without_x = [fid(x[labels != s], y) for s in range(7)]
    without_y = [fid(x, np.delete(y, j, axis=0)) for j in range(8)]
    expected = np.sqrt(6 * np.var(without_x) + 7 * np.var(without_y))
    statistic = FID().prepare(x, y, subjects={"real": labels})
    assert intervals.jackknife_se(statistic) == pytest.approx(expected, rel=1e-9)


def test_large_sets_use_the_infinitesimal_jackknife():
    """At n = 220 it stays within 10% of leaving one out, and the interval is built from it."""
    x, y = sets(n=220, m=210, d=4)
    statistic = FID().prepare(x, y)
    se = intervals.infinitesimal_jackknife_se(statistic)
    assert se == pytest.approx(intervals.jackknife_se(statistic), rel=0.1)
    found = intervals.jackknife_interval(statistic)
    assert found.high - found.low == pytest.approx(2 * 1.959963985 * se, rel=1e-8)


def test_effective_rank_counts_equal_directions():
    """Rows +-e_k for k < 6 have a covariance with 6 equal eigenvalues, in any dimension."""
    signs = np.concatenate([np.eye(6), -np.eye(6)])
    assert effective_rank(signs) == pytest.approx(6)
    assert effective_rank(np.hstack([signs, np.zeros((12, 30))])) == pytest.approx(6)


def test_effective_rank_is_that_of_the_covariance():
    x, _ = sets(d=50)
    eigenvalues = np.linalg.eigvalsh(np.cov(x, rowvar=False))
    expected = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert effective_rank(x) == pytest.approx(expected, rel=1e-10)


def test_constant_features_have_a_distance_but_no_rank():
    """Two points a distance 2 apart in each of 3 dimensions, without spread: 3 * 2^2 = 12."""
    x = np.full((5, 3), 0.1)
    assert fid(x, x + 2) == pytest.approx(12)
    with pytest.raises(MetricError, match="must vary"):
        effective_rank(x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("d", [5, 40])
def test_tensors_are_taken_as_their_values_in_float64(dtype, d):
    tensors: list[Any] = [torch.from_numpy(a).to(dtype).requires_grad_() for a in sets(d=d)]
    x, y = (tensor.detach().double().numpy() for tensor in tensors)
    assert fid(*tensors) == fid(x, y)
    assert effective_rank(tensors[0]) == effective_rank(x)


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (np.zeros((1, 3)), "at least 2 images"),
        (np.full((4, 3), np.nan), "NaN or infinity in 4 of 4 rows"),
    ],
)
def test_what_has_no_rank_is_named(x, found):
    with pytest.raises(MetricError, match=found):
        effective_rank(x)


@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2 images"),
        (np.zeros((4, 3)), np.full((4, 3), np.inf), "infinity in 4 of 4 rows"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "real 3, synth 2"),
        (np.zeros(4), np.zeros((4, 2)), r"shape \(4,\)"),
    ],
)
def test_what_cannot_be_scored_is_named(x, y, found):
    with pytest.raises(MetricError, match=found):
        fid(x, y)


@pytest.mark.parametrize("route", [gram, covariances])
def test_a_single_count_is_undefined(route):
    """One image has no covariance: NaN, which the inference refuses or leaves out."""
    x, y = sets(n=4, m=4, d=2)
    one = {"real": np.eye(4)[:1], "synth": np.ones((1, 4))}
    assert np.isnan(route(x, y).value(one)).all()
