from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance
from sklearn.mixture import GaussianMixture

from synthbench.errors import MetricError
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.intensity import Stack
from synthbench.metrics.measures.distributions import wasserstein
from synthbench.metrics.measures.quality import (
    MEASURES,
    Quality,
    cjv,
    efc,
    quality_distance,
    tissue_intensities,
    wm2max,
)
from synthbench.metrics.metric import Composite, VolumeMetric
from synthbench.testing import check_metric

SHAPE = (20, 22, 18)


def tissue_voxels(n=20_000, seed=0):
    """Intensities of fluid, grey and white matter, and their tissues."""
    rng = np.random.default_rng(seed)
    tissue = rng.choice(3, size=n, p=[0.2, 0.45, 0.35])
    means, sds = np.array([0.2, 0.5, 0.75]), np.array([0.06, 0.05, 0.04])
    return (means[tissue] + sds[tissue] * rng.normal(size=n)).clip(0, 1).astype(np.float32), tissue


def heads(n, seed):
    """Volumes of three smooth regions, each with its own contrast and noise."""
    rng = np.random.default_rng(seed)
    volumes = []
    for _ in range(n):
        field = gaussian_filter(rng.normal(size=SHAPE), 2)
        levels = np.array([0.2, 0.5, 0.75]) + 0.02 * rng.normal(size=3)
        tissue = levels[np.digitize(field, np.quantile(field, [0.2, 0.65]))]
        noise = 0.03 * (1 + 0.2 * rng.random()) * rng.normal(size=SHAPE)
        volumes.append((tissue + noise).clip(0, 1))
    return np.stack(volumes).astype(np.float32)


def mriqc_efc(img):
    """MRIQC's formula, written out: Shannon entropy of x / b over its maximum at equal voxels."""
    n, b = img.size, np.sqrt((img.astype(np.float64) ** 2).sum())
    p = [float(value) / b for value in img.ravel()]
    entropy = -sum(value * np.log(value) for value in p if value > 0)
    return entropy / (-n * (1 / np.sqrt(n)) * np.log(1 / np.sqrt(n)))


def test_it_is_a_sound_metric():
    assert isinstance(Quality(), VolumeMetric)
    check_metric(Quality())


def test_the_mixture_is_that_of_scikit_learn():
    """The histogram has 256 levels, which moves a mean by less than a tenth of a level."""
    inside, _ = tissue_voxels()
    model = GaussianMixture(3, means_init=[[0.2], [0.5], [0.75]], tol=1e-9, max_iter=500).fit(
        inside[:, None].astype(float)
    )
    order = np.argsort(model.means_[:, 0])
    found = tissue_intensities(inside)
    np.testing.assert_allclose(found.means, model.means_[order, 0], atol=2e-3)
    np.testing.assert_allclose(found.sds, np.sqrt(model.covariances_[order, 0, 0]), atol=2e-3)
    np.testing.assert_allclose(found.shares, model.weights_[order], atol=0.01)


def test_cjv_and_wm2max_are_those_of_the_true_tissues():
    inside, tissue = tissue_voxels()
    grey, white = inside[tissue == 1].astype(float), inside[tissue == 2].astype(float)
    found = tissue_intensities(inside)
    expected = (grey.std() + white.std()) / abs(white.mean() - grey.mean())
    assert cjv(found) == pytest.approx(expected, rel=0.03)
    expected = white.mean() / np.percentile(inside, 99.95)
    assert wm2max(inside, found) == pytest.approx(expected, rel=0.01)


def test_efc_is_that_of_mriqc():
    inside, _ = tissue_voxels(500)
    assert efc(inside) == pytest.approx(mriqc_efc(inside), rel=1e-10)
    inside[:100] = 0
    assert efc(inside) == pytest.approx(mriqc_efc(inside), rel=1e-10)


def test_distances_are_those_of_scipy():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=9), rng.normal(0.4, 2, size=7)
    w, v = rng.random((3, 9)) + 0.1, rng.integers(0, 3, size=(3, 7)).astype(float)
    found = wasserstein(x, y, {"real": w, "synth": v})
    expected = [wasserstein_distance(x, y, a, b) for a, b in zip(w, v, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_value_is_the_mean_distance_in_real_deviations():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(12, 3)), rng.normal(0.3, 1.5, size=(10, 3))
    statistic = Quality().prepare(x, y)
    assert isinstance(statistic, Composite)
    parts = {key: estimate(part.statistic) for key, part in statistic.parts().items()}
    expected = [wasserstein_distance(x[:, i], y[:, i]) for i in range(3)]
    assert list(parts) == list(MEASURES)
    np.testing.assert_allclose(list(parts.values()), expected, rtol=1e-12)
    scaled = np.array(expected) / x.std(axis=0)
    assert estimate(statistic) == pytest.approx(scaled.mean(), rel=1e-12)


def test_noise_blur_and_bias_move_the_measures_as_they_should():
    volumes = heads(4, 3)
    rng = np.random.default_rng(4)
    along = np.linspace(-1, 1, SHAPE[0])[:, None, None]
    inside = np.ones(SHAPE, dtype=bool)

    def rows(changed):
        stack = Stack(np.clip(changed, 0, 1).astype(np.float32))
        return Quality().measure(stack, inside, {}).mean(axis=0)

    before = rows(volumes)
    noisy = rows(volumes + 0.06 * rng.normal(size=volumes.shape))
    assert noisy[0] > before[0]
    assert noisy[2] < before[2]
    assert rows([gaussian_filter(volume, 2) for volume in volumes])[1] > before[1]
    assert rows(volumes * (1 + 0.2 * along))[0] > before[0]


def test_more_damage_is_further_from_real():
    real, synth = heads(8, 5), heads(8, 6)
    noise = np.random.default_rng(7).normal(size=synth.shape)
    found = [
        quality_distance(real, (synth + sd * noise).clip(0, 1).astype(np.float32))
        for sd in (0.0, 0.03, 0.06, 0.12)
    ]
    assert found == sorted(found)
    assert found[-1] > 3 * found[0]


def test_order_and_tensors_change_nothing():
    real, synth = heads(4, 8), heads(3, 9)
    found = quality_distance(real, synth)
    assert quality_distance(real[::-1], synth[::-1]) == pytest.approx(found, rel=1e-12)
    assert quality_distance(torch.from_numpy(real), torch.from_numpy(synth)) == found


def test_known_rows_are_not_read_again():
    volumes = heads(3, 10)
    inside = np.ones(SHAPE, dtype=bool)
    rows = Quality().measure(Stack(volumes), inside, {})
    blank = Stack(np.zeros_like(volumes))
    np.testing.assert_array_equal(Quality().measure(blank, inside, {}, known=rows), rows)


def test_the_interval_holds_the_value():
    x, y = (np.random.default_rng(seed).normal(size=(15, 3)) for seed in (11, 12))
    statistic = Quality().prepare(x, y)
    found = interval(statistic, Quality.interval, seed=0)
    assert found.low < estimate(statistic) < found.high


def test_what_cannot_be_scored_is_refused():
    real = heads(3, 13)
    constant, bright = real.copy(), real.copy()
    constant[1], bright[1, 0, 0, 0] = 0.5, 1.5
    with pytest.raises(MetricError, match=r"quality: .*0.5 to 0.5 in volume 1"):
        quality_distance(real, constant)
    with pytest.raises(MetricError, match=r"must lie in \[0, 1\] and differ; found .* to 1.5"):
        quality_distance(real, bright)
    with pytest.raises(MetricError, match="CJV must differ between real volumes; all 3 are"):
        quality_distance(np.stack([real[0]] * 3), real)
