"""Statistics of some of the images, against the subset alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.fid import FID
from synthbench.metrics.inference import (
    contracts,
    intervals,
    resampling,
    subgroup,
)
from synthbench.metrics.metric import Studentized
from synthbench.metrics.mmd import MMD2
from synthbench.metrics.msssim import MSSSIM
from tests.metrics.inference.means import OnlyValue, mean_of


def prepared(metric: str, x: np.ndarray, y: np.ndarray, subjects: dict[str, np.ndarray]):
    """A statistic of features; MS-SSIM's is of similarities between the rows."""
    if metric == "mmd2":
        return MMD2().prepare(x, y, subjects=subjects, bandwidth=2.0)
    if metric == "fid":
        return FID().prepare(x, y, subjects=subjects)
    similar = [np.exp(-((a[:, None] - a) ** 2).sum(axis=-1)) for a in (x, y)]
    return MSSSIM().prepare(*similar, subjects=subjects)


@pytest.mark.parametrize("metric", ["mmd2", "fid", "ms_ssim"])
@pytest.mark.parametrize("method", ["studentized", "jackknife", "percentile"])
def test_a_subgroup_is_the_statistic_of_the_subset_alone(metric, method):
    """Same estimate, same interval from the same seed, with several images per subject too."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 9)), rng.normal(size=(17, 9)) + 0.5
    subjects = {"real": np.repeat(np.arange(16), [2, 1, 1, 1] * 4), "synth": np.arange(17)}
    chosen = {"real": x[:, 0] < 0.4, "synth": y[:, 0] < 0.9}
    part = subgroup.subgroup(prepared(metric, x, y, subjects), chosen)
    alone = prepared(
        metric,
        x[chosen["real"]],
        y[chosen["synth"]],
        {role: subjects[role][images] for role, images in chosen.items()},
    )
    assert 6 < len(part.subjects["real"]) < 20
    assert resampling.estimate(part) == pytest.approx(resampling.estimate(alone), rel=1e-9)
    assert isinstance(part, Studentized) == isinstance(alone, Studentized)
    if method == "studentized" and metric == "fid":
        return  # it has no variance, as a subgroup or alone
    found = intervals.interval(part, method, resamples=60, seed=3)
    expected = intervals.interval(alone, method, resamples=60, seed=3)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_a_subgroup_of_many_leaves_one_out():
    """The derivative at equal weights on all images is not that of a subgroup, and is not used."""
    x = np.random.default_rng(0).normal(size=250)
    chosen = np.arange(250) >= 20
    part = subgroup.subgroup(mean_of(x), {"real": chosen})
    assert not isinstance(part, contracts.Differentiable)
    low, high = stats.norm.interval(0.95, x[20:].mean(), x[20:].std(ddof=1) / np.sqrt(230))
    found = intervals.jackknife_interval(part)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ({"reel": np.ones(4, dtype=bool)}, "did you mean 'real'"),
        ({"real": np.ones(3, dtype=bool)}, r"shape \(3,\)"),
        ({"real": np.array([0, 1, 1, 0])}, "of int64"),
        ({"real": np.zeros(4, dtype=bool)}, "0 nonzero"),
    ],
)
def test_wrong_subgroups_are_named(chosen, found):
    with pytest.raises(MetricError, match=found):
        subgroup.subgroup(OnlyValue(), chosen)
