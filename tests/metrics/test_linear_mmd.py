"""MMD^2 with a linear kernel on voxels, against MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics import linear_mmd
from synthbench.metrics.inference import resampling
from synthbench.metrics.linear_mmd import MMDLinear
from tests.metrics.discrepancies import double_sums, linear_statistic, sets, volumes


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
