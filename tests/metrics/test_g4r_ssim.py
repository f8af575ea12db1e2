from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d, sobel

from synthbench.errors import MetricError
from synthbench.metrics.g4r_ssim import (
    G4RSSIM,
    g4r_ssim,
    gradient_magnitude,
    gradient_pair_matrix,
    region_mean,
)
from synthbench.metrics.inference import resampling
from synthbench.metrics.inference.pairs import pair_design
from synthbench.metrics.intensity import Stack
from synthbench.metrics.metric import Composite, Studentized, VolumeMetric, ones

SHAPE = (18, 21, 19)


def volumes(n, seed=0, shared=0.6):
    """Smooth structure common to all, and noise of each, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 4, 4, generator=generator)
    common = torch.nn.functional.interpolate(coarse, size=SHAPE, mode="trilinear")[:, 0]
    return shared * common + (1 - shared) * torch.rand(n, *SHAPE, generator=generator)


def some_mask():
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[7:11, 4:14, 8:12] = True
    mask[8, 9, 9] = False
    return mask


def by_hand(x, y, mask):
    """The definition of the module's docstring in double precision with SciPy's operators."""
    x, y = (v.numpy().astype(np.float64) for v in (x, y))
    a, b = (sum(np.abs(sobel(v, axis=axis)) for axis in range(3)) for v in (x, y))
    offsets = np.arange(11) - 5
    window = np.exp(-((offsets / 1.5) ** 2) / 2)
    window /= window.sum()

    def local(values):
        for axis in range(3):
            values = correlate1d(values, window, axis=axis)
        return values

    mean_a, mean_b = local(a), local(b)
    covariance = local(a * b) - mean_a * mean_b
    r = covariance / np.sqrt((local(a * a) - mean_a**2) * (local(b * b) - mean_b**2))
    inside = np.zeros(SHAPE, dtype=bool)
    inside[6:-6, 6:-6, 6:-6] = True
    inside &= mask.numpy()
    r, a, b = r[inside], a[inside], b[inside]
    values = []
    for reference, other in ((a, b), (b, a)):
        t1, t2 = 0.12 * reference.max(), 0.06 * reference.max()
        preserved = (reference > t1) & (other > t1)
        changed = (reference > t1) != (other > t1)
        smooth = (reference < t2) & (other <= t1)
        texture = ~preserved & ~changed & ~smooth
        regions = [r[region] for region in (preserved, changed, smooth, texture)]
        values.append(np.mean([region.mean() for region in regions if region.size]))
    return np.mean(values)


def with_contrast(seed):
    """Steep, shallow and nearly flat parts side by side, so that every region has voxels."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(*SHAPE, generator=generator)
    gain = torch.linspace(-4, 0, SHAPE[1])[:, None].exp()
    return 0.5 + 0.5 * gain * (noise - 0.5)


def test_the_metric_is_of_its_protocol():
    metric = G4RSSIM()
    assert isinstance(metric, VolumeMetric)
    assert metric.pairs


@pytest.mark.parametrize("mask", [some_mask(), torch.ones(SHAPE, dtype=torch.bool)])
def test_values_are_those_of_the_definition(mask):
    pairs = [tuple(volumes(2)), (with_contrast(1), with_contrast(2))]
    for x, y in pairs:
        assert g4r_ssim(x, y, mask) == pytest.approx(by_hand(x, y, mask), abs=2e-4)


def test_the_gradient_is_scipys_sobel():
    """`scipy.ndimage.sobel` is not normalised: 2 along and 4 x 4 across."""
    x = volumes(1)[0]
    expected = sum(np.abs(sobel(x.numpy().astype(np.float64), axis=a)) for a in range(3)) / 32
    found = gradient_magnitude(x).numpy()
    np.testing.assert_allclose(found, expected[1:-1, 1:-1, 1:-1], atol=1e-6)


def test_regions_count_alike_whatever_their_size():
    """Largest gradient 1, so T1 = 0.12 and T2 = 0.06. Voxels: 2 preserved edges (r 0.9, 0.7), 1
    changed edge (0.2), 3 smooth (0.5, 0.6, 0.7), 2 of texture (0.1, 0.3), of which the second is
    smooth in the reference's stead only: its gradient is below T2 where the reference's is not.
    Means 0.8, 0.2, 0.6, 0.2; their mean is 0.45.
    """
    r = torch.tensor([0.9, 0.7, 0.2, 0.5, 0.6, 0.7, 0.1, 0.3])
    reference = torch.tensor([1.0, 0.2, 0.5, 0.01, 0.02, 0.05, 0.08, 0.07])
    other = torch.tensor([0.3, 0.4, 0.1, 0.01, 0.11, 0.0, 0.1, 0.01])
    found = region_mean(r, reference, other, torch.tensor(1.0))
    assert float(found) == pytest.approx(0.45, abs=1e-6)


def test_empty_regions_leave_their_weight_to_the_others():
    """Only preserved edges (mean 0.6) and changed ones (0.1)."""
    r = torch.tensor([0.4, 0.8, 0.1])
    gradients = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.9, 0.8, 0.0])
    assert float(region_mean(r, *gradients, torch.tensor(0.9))) == pytest.approx(0.35)


def test_structure_alone_counts():
    """Half the contrast and another brightness leave every correlation at 1, and of both volumes
    they leave the shares of the largest gradient too.
    """
    x, y = volumes(2)
    assert g4r_ssim(x, 0.1 + 0.5 * x) == pytest.approx(1, abs=1e-4)
    assert g4r_ssim(0.1 + 0.5 * x, 0.1 + 0.5 * y) == pytest.approx(g4r_ssim(x, y), abs=1e-4)


def test_neither_volume_is_the_reference():
    x, y = volumes(1, seed=0)[0], volumes(1, seed=5, shared=0.9)[0]
    assert g4r_ssim(x, y) == pytest.approx(g4r_ssim(y, x), abs=1e-6)


def test_gradients_without_variance_follow_rouse_and_hemami():
    """Constant volumes, and ramps, have gradients without variance: similarity 1 of two such,
    0 of one with another.
    """
    flat = torch.full(SHAPE, 0.3)
    ramp = torch.linspace(0, 1, SHAPE[0])[:, None, None].expand(SHAPE).contiguous()
    assert g4r_ssim(flat, ramp) == 1
    assert g4r_ssim(flat, volumes(1)[0]) == 0
    assert g4r_ssim(ramp, volumes(1)[0]) == 0


def test_what_no_masked_window_reaches_does_not_count():
    """Beyond 6 voxels from the mask (5 of the window, 1 of Sobel's operator) nothing counts."""
    x, y = volumes(2)
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[8:11, 8:11, 6:8] = True
    changed = y.clone()
    changed[:, :, 14:] = x[:, :, 14:]
    assert g4r_ssim(x, changed, mask) == g4r_ssim(x, y, mask)
    assert g4r_ssim(x, changed) > g4r_ssim(x, y)


def test_the_pair_matrix_is_every_pair():
    x = volumes(4)
    found = gradient_pair_matrix(x, mask=some_mask())
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)
    assert found[1, 3] == g4r_ssim(x[1], x[3], some_mask())
    across = gradient_pair_matrix(x[:2], x[2:], mask=some_mask())
    np.testing.assert_array_equal(across, found[:2, 2:])


def test_blocks_do_not_show(monkeypatch):
    x = volumes(5)
    whole = gradient_pair_matrix(x, mask=some_mask())
    across = gradient_pair_matrix(x[:3], x, mask=some_mask())
    monkeypatch.setattr(sys.modules[G4RSSIM.__module__], "PREPARED_BYTES", 1)
    np.testing.assert_array_equal(gradient_pair_matrix(x, mask=some_mask()), whole)
    np.testing.assert_array_equal(gradient_pair_matrix(x[:3], x, mask=some_mask()), across)


def test_less_shared_structure_is_less_similar():
    means = [
        gradient_pair_matrix(volumes(3, shared=shared), mask=None)[0, 1:].mean()
        for shared in (0.99, 0.97, 0.9)
    ]
    assert means == sorted(means, reverse=True)
    assert means[0] > means[-1] + 0.05


def test_the_gap_is_the_difference_of_mean_pairs():
    metric, mask = G4RSSIM(), some_mask().numpy()
    real, synth = volumes(4).numpy(), volumes(5, seed=3, shared=0.95).numpy()
    matrices = [metric.measure(Stack(v), mask, {}) for v in (real, synth)]
    statistic = metric.prepare(*matrices)
    means = [m[np.triu_indices(len(m), k=1)].mean() for m in matrices]
    assert statistic.value(ones(statistic))[0] == pytest.approx(means[1] - means[0])
    assert isinstance(statistic, Studentized)
    assert isinstance(statistic, Composite)
    labels = {key: part.label for key, part in statistic.parts().items()}
    assert labels == {"synth": "4-G-R-SSIM synth", "real": "4-G-R-SSIM real"}
    assert resampling.estimate(statistic.parts()["real"].statistic) == pytest.approx(means[0])


def test_past_the_budget_a_design_is_computed(monkeypatch):
    monkeypatch.setattr(sys.modules[G4RSSIM.__module__], "PAIR_BUDGET", 16)
    metric, mask = G4RSSIM(), some_mask().numpy()
    seen = []
    matrix = metric.measure(
        Stack(volumes(8).numpy()), mask, {}, lambda done, total: seen.append((done, total))
    )
    computed = np.isfinite(matrix) & ~np.eye(8, dtype=bool)
    np.testing.assert_array_equal(computed.sum(axis=0), 4)
    assert seen[-1] == (16, 16)
    everything = gradient_pair_matrix(volumes(8), mask=some_mask())
    np.testing.assert_array_equal(matrix[computed], everything[computed])
    statistic = metric.prepare(matrix, everything)
    expected = everything[np.triu_indices(8, k=1)].mean() - matrix[computed].mean()
    assert resampling.estimate(statistic) == pytest.approx(expected)


def test_arrays_are_taken_as_tensors_are():
    x, y = volumes(2)
    found = g4r_ssim(x.numpy(), y.numpy(), some_mask().numpy())
    assert found == g4r_ssim(x, y, some_mask())


def spoiled():
    x = volumes(2)
    x[1, 9, 9, 9] = torch.nan
    return x


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_pair_matrix(volumes(0), mask=None), "at least 1 volume; found none"),
        (
            lambda: gradient_pair_matrix(spoiled(), mask=some_mask()),
            "volume 1 holds NaN or infinity",
        ),
        (
            lambda: gradient_pair_matrix(volumes(2), mask=torch.zeros(SHAPE, dtype=torch.bool)),
            "no voxel of the mask lies 6 or more voxels inside the grid; found 0 of",
        ),
        (
            lambda: gradient_pair_matrix(volumes(2)[:, :12], mask=None),
            r"at least 13 voxels per side; found \(12, 21, 19\)",
        ),
        (
            lambda: gradient_pair_matrix(volumes(2), volumes(2)[:, 1:], mask=None),
            r"found volume 0 of shape \(17, 21, 19\) where the grid is \(18, 21, 19\)",
        ),
        (
            lambda: gradient_pair_matrix(volumes(3), mask=None, design=np.ones((2, 2), bool)),
            r"a boolean matrix of shape \(3, 3\)",
        ),
        (
            lambda: G4RSSIM().measure(Stack(volumes(1)), some_mask().numpy(), {}),
            "g4r_ssim: a set needs at least 2 volumes; found 1",
        ),
        (lambda: G4RSSIM().prepare(np.eye(3)[:2], np.eye(2)), "real must be a square matrix"),
        (
            lambda: G4RSSIM().prepare(np.eye(2), np.array([[1, 0.2], [0.3, 1]])),
            "matrix of synth must be finite and symmetric",
        ),
        (
            lambda: G4RSSIM().prepare(
                np.eye(6), np.where(pair_design(np.arange(8), 2, seed=0), 0.5, np.nan)
            ),
            "synth must hold at least 4 finite pairs of each image; found 2",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(MetricError, match=message):
        call()
