"""MS-SSIM of pairs of volumes, against MONAI and against its equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ssim_and_cs

from synthbench.errors import MetricError
from synthbench.metrics.similarity import msssim_pairs
from synthbench.metrics.similarity.msssim_pairs import pair_matrix
from synthbench.metrics.similarity.settings import PRESETS, Settings
from tests.metrics.similarity.examples import SMALL, monai_value, volumes


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


def by_preset(shape, preset):
    x, y = volumes(2, shape)
    return msssim_pairs.ms_ssim(x, y, preset=preset)


def designed(design):
    return pair_matrix(volumes(2, (12,) * 3), mask=None, settings=SMALL, design=design)


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
    ],
)
def test_what_cannot_be_compared_is_named(call, found):
    with pytest.raises(MetricError, match=found):
        call()


def test_volumes_outside_the_range_are_refused():
    x = np.random.default_rng(0).random((44, 44, 44), dtype=np.float32)
    for bad in (2 * x, x - 0.5, np.where(x > 0.5, np.nan, x).astype(np.float32)):
        with pytest.raises(MetricError, match=r"lie in \[0, 1\]; y spans"):
            msssim_pairs.ms_ssim(x, bad)
