from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from synthbench.errors import MetricError
from synthbench.metrics.inference import intervals
from synthbench.metrics.intensity import (
    LEVELS,
    Intensity,
    Stack,
    cumulative_shares,
    intensity_distance,
)
from synthbench.metrics.metric import VolumeMetric, ones

SHAPE = (6, 7, 8)


def eight_bit(n, seed, low=0, high=255):
    """Volumes of random 8-bit intensities."""
    levels = np.random.default_rng(seed).integers(low, high, (n, *SHAPE), endpoint=True)
    return (levels / 255).astype(np.float32)


def half_mask():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, :4] = True
    return mask


def test_the_metric_is_of_its_protocol():
    metric = Intensity()
    assert isinstance(metric, VolumeMetric)
    assert not metric.pairs


def test_pooled_eight_bit_intensities_have_scipys_distance():
    """All volumes have as many masked voxels, so pooling them weighs each volume alike; on
    8-bit intensities the thresholds lie between the values, so the area is exact.
    """
    x, y = eight_bit(3, 0), eight_bit(4, 1, low=40, high=200)
    mask = half_mask()
    expected = wasserstein_distance(x[:, mask].ravel(), y[:, mask].ravel())
    assert intensity_distance(x, y, mask) == pytest.approx(expected, rel=1e-6)


def test_weights_pool_volumes_as_scipy_weighs_values():
    x, y = eight_bit(3, 0), eight_bit(3, 1, high=180)
    metric, mask = Intensity(), np.ones(SHAPE, dtype=bool)
    statistic = metric.prepare(*(metric.measure(Stack(v), mask, {}) for v in (x, y)))
    w, v = np.array([2.0, 0.0, 1.0]), np.array([1.0, 3.0, 0.5])
    voxels = mask.sum()
    expected = wasserstein_distance(x.ravel(), y.ravel(), w.repeat(voxels), v.repeat(voxels))
    found = statistic.value({"real": w[None], "synth": v[None]})
    assert found[0] == pytest.approx(expected, rel=1e-6)


def test_continuous_intensities_come_within_half_a_level():
    """Rounding to k/255 moves no intensity, so no distribution, by more than 1/510."""
    rng = np.random.default_rng(3)
    x, y = (rng.beta(a, 3, (2, *SHAPE)).astype(np.float32) for a in (2, 4))
    expected = wasserstein_distance(x.ravel(), y.ravel())
    assert intensity_distance(x, y) == pytest.approx(expected, abs=1 / LEVELS)


def test_a_shift_is_its_own_distance():
    """Adding 10/255 to every intensity carries every unit of mass by 10/255."""
    x = eight_bit(3, 5, high=200)
    assert intensity_distance(x, x + np.float32(10 / 255)) == pytest.approx(10 / 255, rel=1e-6)
    assert intensity_distance(x, x) == 0


def test_the_value_depends_on_the_set_not_on_its_order():
    x, y = eight_bit(4, 0), eight_bit(5, 1, low=30)
    assert intensity_distance(x[::-1], y[::-1]) == pytest.approx(intensity_distance(x, y))
    assert intensity_distance(y, x) == pytest.approx(intensity_distance(x, y))


def test_tensors_are_taken_as_arrays_are():
    x, y = eight_bit(2, 0), eight_bit(2, 1)
    found = intensity_distance(torch.from_numpy(x), torch.from_numpy(y))
    assert found == intensity_distance(x, y)


def test_thresholds_lie_between_eight_bit_levels():
    """Of 0, 1/255 and 1: one third is at most 0.5/255, two thirds at most 1.5/255 and on."""
    shares = cumulative_shares(np.array([0, 1 / 255, 1], dtype=np.float32))
    assert shares.shape == (LEVELS,)
    np.testing.assert_allclose(shares, [1 / 3] + [2 / 3] * 254)


def test_the_jackknife_interval_holds_the_value():
    x, y = eight_bit(6, 0, high=150), eight_bit(6, 1)
    metric, mask = Intensity(), half_mask()
    statistic = metric.prepare(*(metric.measure(Stack(v), mask, {}) for v in (x, y)))
    interval = intervals.jackknife_interval(statistic)
    assert interval.low < statistic.value(ones(statistic))[0] < interval.high


def test_progress_counts_volumes():
    seen = []
    metric = Intensity()
    metric.measure(Stack(eight_bit(3, 0)), half_mask(), {}, lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def spoiled(value):
    x = eight_bit(2, 0)
    x[1, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("volumes", "mask", "message"),
    [
        (eight_bit(1, 0), half_mask(), "intensity: a set needs at least 2 volumes; found 1"),
        (eight_bit(2, 0), half_mask() & False, "at least one voxel; found none of 336"),
        (eight_bit(2, 0), half_mask()[1:], r"found volume 0 of shape \(6, 7, 8\).*one space"),
        (spoiled(np.nan), half_mask(), "volume 1 holds NaN or infinity"),
        (spoiled(1.5), half_mask(), r"must lie in \[0, 1\]; found .* to 1.5 in volume 1.*to_unit"),
        (eight_bit(2, 0)[0], half_mask(), r"stacked along \(n, d, h, w\); found shape \(6, 7, 8\)"),
    ],
)
def test_bad_input_is_named(volumes, mask, message):
    with pytest.raises(MetricError, match=message):
        intensity_distance(volumes, volumes, mask)
