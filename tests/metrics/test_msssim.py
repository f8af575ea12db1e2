from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ms_ssim, compute_ssim_and_cs
from scipy.ndimage import correlate1d

from synthbench.errors import MetricError
from synthbench.metrics.inference import contracts, intervals, resampling
from synthbench.metrics.metric import Composite, CrossMetric, Studentized
from synthbench.metrics.msssim import MSSSIM, MSSSIMMonaiK4, MSSSIMWang5
from synthbench.metrics.similarity import diversity, msssim_pairs, windows
from synthbench.metrics.similarity import settings as settings_module
from synthbench.metrics.similarity.diversity import CrossSimilarity, cross_design
from synthbench.metrics.similarity.msssim_pairs import pair_matrix
from synthbench.metrics.similarity.settings import PRESETS, Settings

SMALL = Settings(window=5, weights=(0.3, 0.7))


def volumes(n, shape, seed=0):
    """Smooth structure common to all, and noise of each, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 4, 4, generator=generator)
    common = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[:, 0]
    return 0.6 * common + 0.4 * torch.rand(n, *shape, generator=generator)


def monai_value(x, y, settings):
    return float(
        compute_ms_ssim(
            x[None, None],
            y[None, None],
            spatial_dims=3,
            kernel_size=settings.window,
            kernel_sigma=settings.sigma,
            weights=settings.weights,
            k1=settings.k1,
            k2=settings.k2,
            data_range=settings.data_range,
        )
    )


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        (PRESETS["default"], (44, 53, 46)),
        (PRESETS["monai-k4"], (64, 71, 65)),
        (SMALL, (13, 16, 30)),
        (Settings(window=11, weights=(1.0,), data_range=2.0), (11, 40, 12)),
    ],
)
def test_over_the_full_frame_values_are_monais(settings, shape):
    v = volumes(3, shape)
    found = pair_matrix(v, mask=None, settings=settings)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert found[i, j] == pytest.approx(monai_value(v[i], v[j], settings), abs=1e-5)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)


def test_single_precision_costs_a_millionth():
    """Equation 7 of Wang et al. 2003 with dense windows, in double precision."""
    x, y = volumes(2, (24, 22, 26))
    c1, c2 = 0.01**2, 0.03**2
    offsets = torch.arange(5, dtype=torch.float64) - 2
    line = torch.exp(-((offsets / 1.5) ** 2) / 2)
    cube = line[:, None, None] * line[:, None] * line
    cube = (cube / cube.sum())[None, None]

    def local(a):
        return torch.nn.functional.conv3d(a[None, None], cube)[0, 0]

    expected = 1.0
    for scale, weight in enumerate(SMALL.weights):
        a, b = (torch.nn.functional.avg_pool3d(v[None].double(), 2**scale)[0] for v in (x, y))
        mean_a, mean_b = local(a), local(b)
        spread = local(a * a) - mean_a**2 + local(b * b) - mean_b**2
        terms = (2 * (local(a * b) - mean_a * mean_b) + c2) / (spread + c2)
        if scale == 1:
            terms = terms * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        expected *= float(terms.mean()) ** weight
    found = pair_matrix(x[None], y[None], mask=None, settings=SMALL)[0, 0]
    assert found == pytest.approx(expected, rel=3e-6)


def test_an_all_ones_mask_is_the_full_frame():
    v = volumes(2, (14, 15, 16))
    mask = torch.ones(14, 15, 16, dtype=torch.bool)
    masked = pair_matrix(v, mask=mask, settings=SMALL)
    np.testing.assert_array_equal(masked, pair_matrix(v, mask=None, settings=SMALL))


def test_equal_volumes_have_similarity_one():
    """Numerators and denominators are equal, and computed alike: exactly 1, constant or not."""
    shape = (44, 44, 44)
    mask = np.zeros(shape, dtype=bool)
    mask[10:30, 12:34, 9:31] = True
    for v in (torch.full(shape, 0.7), torch.zeros(shape), volumes(1, shape)[0]):
        assert msssim_pairs.ms_ssim(v, v) == 1
        assert msssim_pairs.ms_ssim(v, v.clone(), mask) == 1


def test_arrays_are_compared_as_tensors_are():
    v = volumes(2, (44, 46, 45))
    mask = torch.zeros(44, 46, 45, dtype=torch.bool)
    mask[8:36, 8:36, 8:36] = True
    x, y = v.numpy()
    x.flags.writeable = False
    assert msssim_pairs.ms_ssim(x, y.astype(np.float64)) == msssim_pairs.ms_ssim(v[0], v[1])
    assert msssim_pairs.ms_ssim(x, v[1], mask.numpy()) == msssim_pairs.ms_ssim(v[0], y, mask)


def test_opposite_volumes_have_similarity_zero():
    """X and 1 - x have negative covariance everywhere; the mean below zero is taken as zero."""
    x = volumes(1, (12, 12, 12))[0]
    assert msssim_pairs.pair_matrix(x[None], 1 - x[None], mask=None, settings=SMALL)[0, 0] == 0


def test_constant_volumes_differ_in_luminance_only():
    """Without variance the contrast terms are c2/c2 = 1, and the luminance term of the last
    scale is (2ab + c1)/(a^2 + b^2 + c1), to the power of that scale's weight.
    """
    a, b, c1 = 0.1, 0.3, 0.01**2
    shape = (44, 44, 44)
    expected = ((2 * a * b + c1) / (a**2 + b**2 + c1)) ** PRESETS["default"].weights[-1]
    found = msssim_pairs.ms_ssim(torch.full(shape, a), torch.full(shape, b))
    assert found == pytest.approx(expected, rel=1e-4)


def test_what_no_masked_window_reaches_does_not_count():
    """The volumes agree in all voxels that windows centred in the mask reach, at both scales
    (up to 2 * 2 + 1 voxels at full resolution), and differ beyond: exactly 1 inside the mask.
    """
    x, other = volumes(2, (28, 28, 40))
    y = x.clone()
    y[:, :, 26:] = other[:, :, 26:]
    mask = torch.zeros(28, 28, 40, dtype=torch.bool)
    mask[8:20, 8:20, 4:20] = True
    assert pair_matrix(x[None], y[None], mask=mask, settings=SMALL)[0, 0] == pytest.approx(1)
    assert pair_matrix(x[None], y[None], mask=None, settings=SMALL)[0, 0] < 0.9


def test_masked_value_averages_monais_maps_over_the_mask():
    """One and two scales by hand: MONAI's local maps, averaged over the mask's voxels."""
    x, y = volumes(2, (20, 22, 18))
    mask = torch.zeros(20, 22, 18, dtype=torch.bool)
    mask[5:16, 4:15, 6:14] = True
    mask[9, 9, 9] = False

    def maps(a, b):
        return compute_ssim_and_cs(
            a[None, None], b[None, None], 3, kernel_size=[5] * 3, kernel_sigma=[1.5] * 3
        )

    def pooled(a):
        return torch.nn.functional.avg_pool3d(a[None].float(), 2)[0]

    inner = slice(2, -2)
    _, fine = maps(x, y)
    coarse, _ = maps(pooled(x), pooled(y))
    fine_mean = fine[0, 0][mask[inner, inner, inner]].mean()
    coarse_mean = coarse[0, 0][(pooled(mask) > 0.5)[inner, inner, inner]].mean()
    expected = float(fine_mean**0.3 * coarse_mean**0.7)
    found = pair_matrix(x[None], y[None], mask=mask, settings=SMALL)[0, 0]
    assert found == pytest.approx(expected, rel=1e-5)


def test_mask_pyramid_halves_a_cube():
    """An 8-cube in a 16-grid: 8^3 voxels, then 4^3; windows of 5 take 2 voxels off each side.
    A cube that covers half of its coarse border voxels loses them (not above one half).
    """
    mask = torch.zeros(16, 16, 16, dtype=torch.bool)
    mask[4:12, 4:12, 4:12] = True
    fine, coarse = msssim_pairs.mask_pyramid(mask, SMALL)
    assert (fine.shape, int(fine.sum())) == ((12, 12, 12), 8**3)
    assert (coarse.shape, int(coarse.sum())) == ((4, 4, 4), 4**3)
    mask[4:12, 4:12, 12] = True
    assert int(msssim_pairs.mask_pyramid(mask, SMALL)[1].sum()) == 4**3


def test_order_does_not_matter():
    v = volumes(4, (12, 14, 13))
    order = [2, 0, 3, 1]
    found = pair_matrix(v, mask=None, settings=SMALL)
    np.testing.assert_allclose(
        pair_matrix(v[order], mask=None, settings=SMALL), found[np.ix_(order, order)], rtol=1e-6
    )
    across = pair_matrix(v[:1], v[1:], mask=None, settings=SMALL)
    np.testing.assert_allclose(across, found[:1, 1:], rtol=1e-6)


def test_pairs_outside_a_design_are_not_computed():
    v = volumes(5, (12, 14, 13))
    whole = pair_matrix(v, mask=None, settings=SMALL)
    design = np.zeros((5, 5), dtype=bool)
    design[[0, 0, 2], [1, 4, 3]] = True
    design |= design.T
    done: list[int] = []
    found = pair_matrix(v, mask=None, settings=SMALL, design=design, progress=done.append)
    np.testing.assert_array_equal(np.isnan(found), ~(design | np.eye(5, dtype=bool)))
    np.testing.assert_array_equal(found[design], whole[design])
    assert sum(done) == 3
    across = pair_matrix(v, v[1:], mask=None, settings=SMALL, design=design[:, 1:])
    np.testing.assert_array_equal(np.isnan(across), ~design[:, 1:])
    np.testing.assert_allclose(across[design[:, 1:]], whole[:, 1:][design[:, 1:]], rtol=1e-6)


@pytest.mark.parametrize("others", [None, slice(1, 4)])
@pytest.mark.parametrize("batch", [1, 2**20])
def test_blocks_and_batches_do_not_matter(monkeypatch, others, batch):
    v = volumes(5, (12, 14, 13))
    columns = None if others is None else v[others]
    whole = pair_matrix(v, columns, mask=None, settings=SMALL)
    # Two volumes a block: 4 bytes times 3 arrays of 12 x 14 x 13 voxels, and an eighth more.
    monkeypatch.setattr(msssim_pairs, "PREPARED_BYTES", int(2.5 * 12 * 12 * 14 * 13 * 9 / 8))
    monkeypatch.setattr(msssim_pairs, "BATCH_BYTES", {"cpu": batch})
    blocked = pair_matrix(v, columns, mask=None, settings=SMALL)
    np.testing.assert_allclose(blocked, whole, rtol=1e-6)


def test_volumes_may_be_read_one_by_one_and_pairs_are_counted():
    v = volumes(4, (12, 12, 12))

    class Source:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return v[index]

    done: list[int] = []
    found = pair_matrix(Source(), mask=None, settings=SMALL, progress=done.append)
    np.testing.assert_array_equal(found, pair_matrix(v, mask=None, settings=SMALL))
    assert sum(done) == 4 * 3 // 2


def test_blur_is_a_separable_correlation():
    v = volumes(2, (9, 40, 12))
    window = windows.gaussian_window(4, 1.5)
    expected = v.numpy().astype(np.float64)
    for axis in (1, 2, 3):
        expected = correlate1d(expected, window.numpy().astype(np.float64), axis=axis, origin=-1)
    # An even window centred one voxel up: valid positions start at index 1 and end 2 early.
    inner = expected[:, 1:-2, 1:-2, 1:-2]
    found = windows.blur(v.transpose(0, 1).contiguous(), windows.banded(window))
    np.testing.assert_allclose(found.permute(3, 2, 0, 1).numpy(), inner, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "window", "expected"),
    [
        ((84, 128, 84), 11, 3),
        ((176, 180, 176), 11, 5),
        ((175, 200, 200), 11, 4),
        ((10, 99, 99), 11, 0),
    ],
)
def test_scales_that_fit(shape, window, expected):
    """11 voxels at the coarsest grid and MONAI's 11 (s - 1)^2: 11, 22, 44, 99, 176 a side."""
    assert settings_module.scales_that_fit(shape, Settings(window=window)) == expected


def test_presets():
    """The default's weights are Wang's first three over their sum; the others keep all five."""
    total = 0.0448 + 0.2856 + 0.3001
    assert PRESETS["default"].weights == pytest.approx(
        (0.0448 / total, 0.2856 / total, 0.3001 / total)
    )
    assert PRESETS["wang5"].weights == (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    assert (PRESETS["monai-k4"].window, PRESETS["monai-k4"].full_frame) == (4, True)


def by_preset(shape, preset):
    x, y = volumes(2, shape)
    return msssim_pairs.ms_ssim(x, y, preset=preset)


def designed(design):
    return pair_matrix(volumes(2, (12,) * 3), mask=None, settings=SMALL, design=design)


def measured(v, mask=None):
    metric = MSSSIM()
    inside = np.ones(v.shape[1:], dtype=bool) if mask is None else mask
    return metric.measure(list(v.numpy()), inside, metric.freeze(None, None))


def across(real, synth):
    metric = MSSSIM()
    mask = np.ones(real.shape[1:], dtype=bool)
    sides = list(real.numpy()), list(synth.numpy())
    return metric.measure_across(*sides, mask, metric.freeze(None, None))


def empty_after_cropping():
    mask = torch.zeros(12, 12, 12, dtype=torch.bool)
    mask[0] = True
    return mask


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: msssim_pairs.ms_ssim(*volumes(2, (30, 50, 50))), "smallest side .* 30"),
        (lambda: msssim_pairs.ms_ssim(*volumes(2, (9, 50, 50))), "window of at most 9"),
        (lambda: by_preset((84, 84, 84), "wang5"), "at most 3 scales"),
        (lambda: by_preset((9, 9, 9), "wang"), "did you mean 'wang5'"),
        (
            lambda: pair_matrix(volumes(2, (12,) * 3), mask=empty_after_cropping(), settings=SMALL),
            "mask is empty at scale 1",
        ),
        (
            lambda: pair_matrix(
                volumes(2, (64,) * 3),
                mask=torch.ones(64, 64, 64, dtype=torch.bool),
                settings=PRESETS["monai-k4"],
            ),
            "mask=None",
        ),
        (
            lambda: pair_matrix(
                volumes(2, (12,) * 3), volumes(1, (12, 12, 13)), mask=None, settings=SMALL
            ),
            "volume 0 of the second set of shape",
        ),
        (
            lambda: pair_matrix(torch.full((2, 12, 12, 12), torch.nan), mask=None, settings=SMALL),
            "volume 0 holds NaN",
        ),
        (lambda: pair_matrix(torch.zeros(0, 12, 12, 12), mask=None, settings=SMALL), "found none"),
        (
            lambda: msssim_pairs.ms_ssim(volumes(1, (44,) * 3), volumes(1, (44,) * 3)),
            r"Pass x\[0\]",
        ),
        (lambda: designed(np.ones((2, 3), dtype=bool)), r"boolean matrix of shape \(2, 2\)"),
        (lambda: designed(np.ones((2, 2))), "of float64"),
        (lambda: designed(np.array([[False, True], [False, False]])), "must be symmetric"),
        (lambda: measured(volumes(1, (44,) * 3)), "at least 2 volumes; found 1"),
        (lambda: measured(volumes(3, (40,) * 3)), "smallest side of 40x40x40 has 40"),
        (lambda: measured(volumes(2, (44,) * 3), np.zeros((44,) * 3, bool)), "0 of 85184 voxels"),
        (
            lambda: measured(volumes(2, (44,) * 3), np.ones((44, 44, 45), bool)),
            r"volume 0 of shape \(44, 44, 44\) where the grid is \(44, 44, 45\)",
        ),
        (lambda: across(volumes(2, (44,) * 3), volumes(2, (44, 45, 44))), "must share one grid"),
        (lambda: Settings(window=1), "window"),
        (lambda: Settings(sigma=0.0), "sigma"),
        (lambda: Settings(weights=()), "at least one scale"),
        (lambda: Settings(weights=(0.5, -0.1)), "smallest of weights"),
    ],
)
def test_what_cannot_be_compared_is_named(call, found):
    with pytest.raises(MetricError, match=found):
        call()


# The statistics


def pair_matrices(n=9, m=7, seed=0):
    rng = np.random.default_rng(seed)
    real, synth = rng.random((n, n)), rng.random((m, m))
    return (real + real.T) / 2, (synth + synth.T) / 2, rng.random((n, m))


@pytest.mark.parametrize("metric", [MSSSIM(), MSSSIMWang5(), MSSSIMMonaiK4()])
def test_it_is_a_metric_with_studentized_statistics(metric: MSSSIM) -> None:
    real, synth, cross = pair_matrices()
    assert isinstance(metric, CrossMetric)
    gap = metric.prepare(real, synth, cross=cross)
    assert isinstance(gap, Composite)
    for statistic in (gap, gap.real, gap.synth, gap.cross):
        assert isinstance(statistic, Studentized)
        assert isinstance(statistic, contracts.Linear)


def cross_statistic(real, synth, cross):
    statistic = MSSSIM().prepare(real, synth, cross=cross).cross
    assert statistic is not None
    return statistic


def test_settings_of_committed_scorecards():
    """As scorecards hold them: Wang's first three weights over their sum, 0.6305."""
    assert MSSSIM().freeze(None, None) == {
        "window": 11,
        "sigma": 1.5,
        "weights": [0.07105471847739889, 0.4529738302934179, 0.4759714512291831],
        "k1": 0.01,
        "k2": 0.03,
        "data_range": 1.0,
        "full_frame": False,
    }


def test_variants_differ_from_the_default_in_their_preset():
    """Five scales take 176 voxels per side with 11-voxel windows, 64 with 4-voxel ones; MONAI's
    tutorial has no mask, so one that holds a single voxel changes nothing.
    """
    assert MSSSIMWang5().freeze(None, None)["weights"] == list(settings_module.WANG_2003)
    settings = json.loads(json.dumps(MSSSIMMonaiK4().freeze(None, None)))
    assert (settings["window"], settings["full_frame"]) == (4, True)
    v = volumes(2, (64, 64, 65))
    mask = np.zeros((64, 64, 65), dtype=bool)
    mask[32, 32, 32] = True
    found = MSSSIMMonaiK4().measure(list(v.numpy()), mask, settings)
    assert found[0, 1] == pytest.approx(monai_value(v[0], v[1], PRESETS["monai-k4"]), abs=1e-5)


def test_compare_reads_arrays_with_frozen_settings():
    """What is frozen survives JSON, and gives the pair matrix of the same volumes and mask."""
    v = volumes(3, (44, 45, 46))
    mask = np.zeros((44, 45, 46), dtype=bool)
    mask[6:38, 6:38, 6:38] = True
    settings = json.loads(json.dumps(MSSSIM().freeze(None, None)))
    done: list[tuple[int, int]] = []
    found = MSSSIM().measure(
        list(v.numpy()), mask, settings, lambda pairs, total: done.append((pairs, total))
    )
    expected = pair_matrix(v, mask=torch.from_numpy(mask), settings=PRESETS["default"])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert done[-1] == (3, 3)
    across = MSSSIM().measure_across(
        list(v[:1].numpy()), list(v[1:].numpy()), mask, settings, lambda *pairs: done.append(pairs)
    )
    np.testing.assert_allclose(across, expected[:1, 1:], rtol=1e-6)
    assert done[-1] == (2, 2)


def test_the_gap_shows_its_parts():
    real, synth, cross = pair_matrices()
    assert set(MSSSIM().prepare(real, synth).parts()) == {"synth", "real"}
    gap = MSSSIM().prepare(real, synth, cross=cross)
    parts = {key: resampling.estimate(part.statistic) for key, part in gap.parts().items()}
    assert parts["synth"] - parts["real"] == pytest.approx(resampling.estimate(gap))
    assert parts["cross"] == pytest.approx(cross.mean())


def test_means_over_pairs_their_gap_and_the_cross():
    real, synth, cross = pair_matrices()
    gap = MSSSIM().prepare(real, synth)
    within_real = real[np.triu_indices(9, 1)].mean()
    within_synth = synth[np.triu_indices(7, 1)].mean()
    assert resampling.estimate(gap.real) == pytest.approx(within_real)
    assert resampling.estimate(gap.synth) == pytest.approx(within_synth)
    assert resampling.estimate(gap) == pytest.approx(within_synth - within_real)
    assert resampling.estimate(cross_statistic(real, synth, cross)) == pytest.approx(cross.mean())


def test_variances_of_pair_means():
    """Order 2: 4 var(g)/n with g the mean over the others; order (1, 1): no factor of 4."""
    real, synth, cross = pair_matrices()

    def within(pairs):
        rows = [np.delete(pairs[i], i).mean() for i in range(len(pairs))]
        return 4 * np.var(rows, ddof=1) / len(pairs)

    gap = MSSSIM().prepare(real, synth)
    weights = {"real": np.ones((1, 9)), "synth": np.ones((1, 7))}
    assert gap.variance(weights)[0] == pytest.approx(within(real) + within(synth))
    across = cross.mean(axis=1).var(ddof=1) / 9 + cross.mean(axis=0).var(ddof=1) / 7
    assert cross_statistic(real, synth, cross).variance(weights)[0] == pytest.approx(across)


def test_variance_is_that_of_the_mean_of_contributions():
    real, synth, cross = pair_matrices()
    weights = {"real": np.ones((1, 9)), "synth": np.ones((1, 7))}
    for statistic in (MSSSIM().prepare(real, synth), cross_statistic(real, synth, cross)):
        terms = statistic.contributions(weights)
        expected = sum(np.var(c[0], ddof=1) / c.shape[1] for c in terms.values())
        assert statistic.variance(weights)[0] == pytest.approx(expected)


def test_gap_of_a_set_with_itself_is_zero():
    """The diagonal of its matrix is never met between the two sides of a floor: over all 2 x 2
    splits of four images the mean across is that over all pairs of distinct images.
    """
    real, _, _ = pair_matrices(n=4)
    np.fill_diagonal(real, 1)
    assert resampling.estimate(MSSSIM().prepare(real, real, cross=real)) == 0
    sides = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]], dtype=float)
    between = cross_statistic(real, real, real).value({"real": sides, "synth": 1 - sides})
    assert between.mean() == pytest.approx(real[np.triu_indices(4, 1)].mean())


def test_a_set_of_identical_volumes_has_no_interval():
    x = volumes(1, (12, 12, 12))
    pairs = pair_matrix(x.expand(5, -1, -1, -1), mask=None, settings=SMALL)
    np.testing.assert_array_equal(pairs, np.ones((5, 5)))
    with pytest.raises(MetricError, match="duplicated volumes"):
        intervals.studentized_interval(MSSSIM().prepare(pairs, pairs), seed=0)


# More pairs than are affordable


def test_past_the_budget_each_volume_is_in_equally_many_pairs(monkeypatch):
    """36 pairs of nine volumes, of which 27 fit: six partners each. The mean is over those, and
    its variance 4 var(g)/n with g an image's mean over its partners.
    """
    monkeypatch.setattr(diversity, "PAIR_BUDGET", 27)
    v = volumes(9, (44, 44, 44))
    pairs = measured(v)
    computed = ~np.isnan(pairs) & ~np.eye(9, dtype=bool)
    np.testing.assert_array_equal(computed, computed.T)
    np.testing.assert_array_equal(computed.sum(axis=0), 6)
    np.testing.assert_array_equal(measured(v), pairs)
    gap = MSSSIM().prepare(pairs, np.eye(5))
    assert resampling.estimate(gap.real) == pytest.approx(pairs[computed].mean())
    g = [pairs[i, computed[i]].mean() for i in range(9)]
    found = gap.real.variance({"real": np.ones((1, 9))})[0]
    assert found == pytest.approx(4 * np.var(g, ddof=1) / 9)
    intervals.studentized_interval(gap.real, resamples=200, seed=0)


def test_past_the_budget_real_and_synthetic_volumes_meet_equally_often(monkeypatch):
    """54 pairs of nine and six, of which 36 fit: four partners per row, six a column."""
    monkeypatch.setattr(diversity, "PAIR_BUDGET", 36)
    v = volumes(15, (44, 44, 44))
    cross = across(v[:9], v[9:])
    computed = ~np.isnan(cross)
    np.testing.assert_array_equal(computed.sum(axis=1), 4)
    np.testing.assert_array_equal(computed.sum(axis=0), 6)
    real, synth, _ = pair_matrices(9, 6)
    part = cross_statistic(real, synth, cross)
    assert resampling.estimate(part) == pytest.approx(cross[computed].mean())
    without = {"real": np.array([[0.0] + [1.0] * 8]), "synth": np.ones((1, 6))}
    assert part.value(without)[0] == pytest.approx(cross[1:][computed[1:]].mean())


def test_the_variance_across_includes_the_design():
    """For K_ij = a_i + b_j + e_ij of variances A, B, E, with p partners per row and q a column,
    the mean over the design varies by A/n + B/m + E/(n p); row and column means by A + (B + E)/p
    and B + (A + E)/q. So E[V] exceeds it by (B + E)/(n p) + (A + E)/(m q) - E/(n p).
    """
    n, m, p, q = 30, 20, 4, 6
    rng = np.random.default_rng(0)
    design = cross_design(n, m, p, seed=1)
    index = {"real": np.arange(n), "synth": np.arange(m)}
    weights = {"real": np.ones((1, n)), "synth": np.ones((1, m))}
    values, variances = [], []
    for _ in range(1000):
        a, b, e = rng.normal(size=(n, 1)), rng.normal(size=m), rng.normal(size=(n, m))
        statistic = CrossSimilarity(np.where(design, a + b + e, 0), index, design)
        values.append(statistic.value(weights)[0])
        variances.append(statistic.variance(weights)[0])
    truth = 1 / n + 1 / m + 1 / (n * p)
    assert np.var(values) == pytest.approx(truth, rel=0.15)
    expected = 1 / n + 1 / m + 2 / (n * p) + 2 / (m * q)
    assert np.mean(variances) == pytest.approx(expected, rel=0.05)


def test_designs_that_starve_an_image_are_refused(monkeypatch):
    real, synth, cross = pair_matrices()
    real[0, 4:] = real[4:, 0] = np.nan
    with pytest.raises(MetricError, match=r"of real must hold at least 4 .* found 3 of one"):
        MSSSIM().prepare(real, synth)
    cross[:5, 2] = np.nan
    with pytest.raises(MetricError, match=r"across must hold at least 4 .* found 2 of one"):
        MSSSIM().prepare(synth, synth, cross=cross[:, :7][:7])
    monkeypatch.setattr(diversity, "PAIR_BUDGET", 5)
    with pytest.raises(MetricError, match="found 5 volumes, which leaves 2"):
        measured(volumes(5, (44, 44, 44)))
    with pytest.raises(MetricError, match="found 3 real by 3 synthetic volumes, which leaves 1"):
        across(*volumes(6, (44, 44, 44)).split(3))
    with pytest.raises(MetricError, match="between 1 and the 4 columns; found 5"):
        cross_design(3, 4, 5, seed=0)


def test_scans_of_one_subject_are_no_pairs():
    real, synth, _ = pair_matrices()
    labels = np.array([0, 0, 1, 2, 3, 4, 5, 5, 5])
    distinct = labels[:, None] != labels[None, :]
    gap = MSSSIM().prepare(real, synth, subjects={"real": labels})
    assert resampling.estimate(gap.real) == pytest.approx(real[distinct].mean())


@pytest.mark.parametrize(
    ("real", "found"),
    [
        (np.ones((3, 4)), "square"),
        (np.ones((1, 1)), "at least 2"),
        (np.array([[1, 0.2], [0.3, 1]]), "symmetric"),
        (np.full((2, 2), np.nan), "finite"),
        (np.full((2, 2), np.inf), "finite"),
    ],
)
def test_matrices_that_hold_no_pairs_are_named(real, found):
    with pytest.raises(MetricError, match=found):
        MSSSIM().prepare(real, np.eye(3))


def test_a_cross_matrix_of_other_images_is_named():
    real, synth, cross = pair_matrices()
    with pytest.raises(MetricError, match=r"ms_ssim: the cross pairs must be .* 9 real by 7"):
        MSSSIM().prepare(real, synth, cross=cross.T)


def test_volumes_outside_the_range_are_refused():
    x = np.random.default_rng(0).random((44, 44, 44), dtype=np.float32)
    for bad in (2 * x, x - 0.5, np.where(x > 0.5, np.nan, x).astype(np.float32)):
        with pytest.raises(MetricError, match=r"lie in \[0, 1\]; y spans"):
            msssim_pairs.ms_ssim(x, bad)
