"""The metric MS-SSIM: settings, measured pairs, and its variants."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from synthbench.errors import MetricError
from synthbench.metrics.inference import contracts, intervals, resampling
from synthbench.metrics.metric import Composite, CrossMetric, Studentized
from synthbench.metrics.msssim import MSSSIM, MSSSIMMonaiK4, MSSSIMWang5
from synthbench.metrics.similarity import diversity
from synthbench.metrics.similarity import settings as settings_module
from synthbench.metrics.similarity.diversity import cross_design
from synthbench.metrics.similarity.msssim_pairs import pair_matrix
from synthbench.metrics.similarity.settings import PRESETS
from tests.metrics.similarity.examples import (
    SMALL,
    cross_statistic,
    monai_value,
    pair_matrices,
    volumes,
)


def measured(v, mask=None):
    metric = MSSSIM()
    inside = np.ones(v.shape[1:], dtype=bool) if mask is None else mask
    return metric.measure(list(v.numpy()), inside, metric.freeze(None, None))


def across(real, synth):
    metric = MSSSIM()
    mask = np.ones(real.shape[1:], dtype=bool)
    sides = list(real.numpy()), list(synth.numpy())
    return metric.measure_across(*sides, mask, metric.freeze(None, None))


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: measured(volumes(1, (44,) * 3)), "at least 2 volumes; found 1"),
        (lambda: measured(volumes(3, (40,) * 3)), "smallest side of 40x40x40 has 40"),
        (lambda: measured(volumes(2, (44,) * 3), np.zeros((44,) * 3, bool)), "0 of 85184 voxels"),
        (
            lambda: measured(volumes(2, (44,) * 3), np.ones((44, 44, 45), bool)),
            r"volume 0 of shape \(44, 44, 44\) where the grid is \(44, 44, 45\)",
        ),
        (lambda: across(volumes(2, (44,) * 3), volumes(2, (44, 45, 44))), "must share one grid"),
    ],
)
def test_what_cannot_be_measured_is_named(call, found):
    with pytest.raises(MetricError, match=found):
        call()


@pytest.mark.parametrize("metric", [MSSSIM(), MSSSIMWang5(), MSSSIMMonaiK4()])
def test_it_is_a_metric_with_studentized_statistics(metric: MSSSIM) -> None:
    real, synth, cross = pair_matrices()
    assert isinstance(metric, CrossMetric)
    gap = metric.prepare(real, synth, cross=cross)
    assert isinstance(gap, Composite)
    for statistic in (gap, gap.real, gap.synth, gap.cross):
        assert isinstance(statistic, Studentized)
        assert isinstance(statistic, contracts.Linear)


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


def test_a_set_of_identical_volumes_has_no_interval():
    x = volumes(1, (12, 12, 12))
    pairs = pair_matrix(x.expand(5, -1, -1, -1), mask=None, settings=SMALL)
    np.testing.assert_array_equal(pairs, np.ones((5, 5)))
    with pytest.raises(MetricError, match="duplicated volumes"):
        intervals.studentized_interval(MSSSIM().prepare(pairs, pairs), seed=0)


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


def test_a_cross_matrix_of_other_images_is_named():
    real, synth, cross = pair_matrices()
    with pytest.raises(MetricError, match=r"ms_ssim: the cross pairs must be .* 9 real by 7"):
        MSSSIM().prepare(real, synth, cross=cross.T)
