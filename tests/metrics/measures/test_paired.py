from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import MAEMetric, PSNRMetric, SSIMMetric
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.measures.paired import mae, mean_of_pairs, psnr, ssim


def pair(seed=0, shape=(20, 17, 23), noise=0.1):
    rng = np.random.default_rng(seed)
    target = rng.random(shape).astype(np.float32)
    image = (target + noise * rng.normal(size=shape)).astype(np.float32)
    return image, target


@pytest.mark.parametrize("data_range", [1.0, 3000.0])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_the_three_are_those_of_monai(data_range, noise):
    """MONAI computes in float32. Its SSIM too is the mean where the window fits into the grid."""
    image, target = (data_range * volume for volume in pair(noise=noise))
    x, y = (torch.from_numpy(volume)[None, None] for volume in (image, target))
    theirs = SSIMMetric(spatial_dims=3, data_range=data_range, win_size=11, kernel_sigma=1.5)(x, y)
    assert ssim(image, target, data_range=data_range) == pytest.approx(float(theirs), abs=2e-4)
    theirs = PSNRMetric(max_val=data_range)(x, y)
    assert psnr(image, target, data_range=data_range) == pytest.approx(float(theirs), abs=1e-3)
    assert mae(image, target) == pytest.approx(float(MAEMetric()(x, y)), rel=1e-5)


def test_only_the_mask_counts():
    image, target = pair()
    mask = np.zeros(target.shape, bool)
    mask[6:12, 6:11, 6:15] = True
    inside = image[mask].astype(float) - target[mask]
    assert mae(image, target, mask) == pytest.approx(np.abs(inside).mean())
    assert psnr(image, target, mask, 2.0) == pytest.approx(10 * np.log10(4 / np.mean(inside**2)))
    outside = np.where(mask, image, 99.0).astype(np.float32)
    assert mae(outside, target, mask) == mae(image, target, mask)
    assert ssim(image, target, mask) != ssim(image, target)


def test_one_window_by_hand():
    """On a grid of one window there is one place: SSIM of moments with the window's weights."""
    image, target = (v.astype(float) for v in pair(shape=(11, 11, 11)))
    g = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    w = np.einsum("i,j,k->ijk", g, g, g) / g.sum() ** 3
    mx, my = (w * image).sum(), (w * target).sum()
    vx, vy = (w * (image - mx) ** 2).sum(), (w * (target - my) ** 2).sum()
    cov = (w * (image - mx) * (target - my)).sum()
    expected = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
    expected *= (2 * cov + 9e-4) / (vx + vy + 9e-4)
    assert ssim(image, target) == pytest.approx(expected, rel=1e-9)


def test_equal_volumes():
    _, target = pair()
    assert ssim(target, target) == pytest.approx(1.0)
    assert mae(target, target) == 0.0
    assert psnr(target, target) == math.inf


def test_they_worsen_with_noise_and_signed_units_cancel():
    image, target = pair()
    values = [
        (psnr(i, t), ssim(i, t), -mae(i, t)) for i, t in (pair(noise=s) for s in (0.05, 0.1, 0.2))
    ]
    assert values == sorted(values, reverse=True)
    assert psnr(image - 0.5, target - 0.5) == pytest.approx(psnr(image, target), abs=1e-4)
    assert mae(image - 0.5, target - 0.5) == pytest.approx(mae(image, target), rel=1e-5)


def test_unusable_pairs_are_refused():
    image, target = pair()
    with pytest.raises(MetricError, match="on one grid"):
        mae(image[1:], target)
    with pytest.raises(MetricError, match="mask is empty"):
        psnr(image, target, np.zeros(target.shape, bool))
    with pytest.raises(MetricError, match="at least 11 voxels"):
        ssim(image[:, :9], target[:, :9])
    with pytest.raises(MetricError, match="above zero"):
        psnr(image, target, data_range=0)
    image = image.copy()
    image[10, 10, 10] = np.nan
    with pytest.raises(MetricError, match="NaN"):
        mae(image, target)


def test_the_interval_is_that_of_a_t_test():
    values = np.random.default_rng(0).normal(size=12)
    found = mean_of_pairs(values, np.arange(12))
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)


def test_scans_of_one_subject_are_one_unit():
    """Twice the same ten values of ten subjects say no more than once."""
    values = np.random.default_rng(0).normal(size=10)
    once = mean_of_pairs(values, np.arange(10))
    twice = mean_of_pairs(np.repeat(values, 2), np.repeat(np.arange(10), 2))
    assert (twice.value, twice.low, twice.high) == pytest.approx((once.value, once.low, once.high))
    with pytest.raises(MetricError, match="at least 2 subjects; found 1"):
        mean_of_pairs(values, np.zeros(10, int))
