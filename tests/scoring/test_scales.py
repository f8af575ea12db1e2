"""The number of MS-SSIM's scales as a setting: frozen, hashed, and named where it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.metrics.regression import compute_ms_ssim

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import MetricError, UsageError
from synthbench.metrics.msssim import MSSSIM
from synthbench.metrics.similarity.settings import WANG_2003, first_weights
from synthbench.scoring import freeze, scoring
from synthbench.scoring.settings import Context, ScoringSettings

CONTEXT = Context(cache=None)
FROZEN: dict[str, Any] = {"n_synth": 4, "primary": "ms_ssim"}


def settings(**more):
    return ScoringSettings(extractors=("voxels",), metrics=("ms_ssim",), resamples=100, **more)


def test_weights_of_fewer_scales_are_the_first_over_their_sum():
    assert first_weights(2) == pytest.approx(np.array(WANG_2003[:2]) / sum(WANG_2003[:2]))
    assert first_weights(1) == (1.0,)
    assert list(first_weights(3)) == MSSSIM().freeze(None, None)["weights"]
    for wrong in (0, 6):
        with pytest.raises(MetricError, match="1 to 5 scales"):
            first_weights(wrong)


@pytest.mark.slow
def test_two_scales_are_scored_frozen_and_hashed(make_cohort):
    """On 24 voxels per side three do not fit. The mean over pairs within a set is MONAI's."""
    real, synth = make_cohort("real", n=6, seed=1), make_cohort("synth", n=4, seed=2)
    with pytest.raises(MetricError, match="at most 2 scales: --scales 2, of synthbench score"):
        scoring.score(real, synth, accept=["few"], context=CONTEXT, **dict(settings()))
    benchmark = freeze.freeze(real, "b", settings(scales=2), CONTEXT, **FROZEN)
    assert benchmark.protocol.settings["ms_ssim"]["weights"] == list(first_weights(2))
    assert benchmark.settings.scales == 2
    with pytest.raises(UsageError, match=r"--scales 2.* a benchmark cannot freeze it"):
        freeze.freeze(real, "c", settings(), CONTEXT, **FROZEN)
    large = make_cohort("large", n=4, seed=3, shape=(44, 44, 44))
    two, three, default = (
        freeze.freeze(large, "c", settings(**scales), CONTEXT, **FROZEN).protocol.hash
        for scales in ({"scales": 2}, {"scales": 3}, {})
    )
    assert three == default != two
    card = scoring.score(real, synth, benchmark=benchmark, accept=["few"], context=CONTEXT)
    row = card.row("ms_ssim")
    assert row is not None
    assert row.value is not None
    again = scoring.score(real, synth, accept=["few"], context=CONTEXT, **dict(settings(scales=2)))
    assert again.row("ms_ssim") == row.model_copy(update={"floor": again.values[0].floor})

    volumes = [torch.from_numpy(v)[None, None] for v in read_cohort(synth).volumes()]
    full = MSSSIM().with_scales(MSSSIM().freeze(None, None), 2)
    pairs = MSSSIM().measure(
        [v[0, 0].numpy() for v in volumes], np.ones((24, 24, 24), bool), full
    )  # fmt: skip
    peer = compute_ms_ssim(
        volumes[0], volumes[1], 3, weights=first_weights(2), kernel_size=11, kernel_sigma=1.5
    )
    assert pairs[0, 1] == pytest.approx(float(peer), abs=1e-5)


@pytest.mark.slow
def test_scales_without_a_metric_that_has_them_are_refused(make_cohort):
    real = make_cohort("real", n=6, seed=1)
    for metrics in (("intensity",), ("ms_ssim_wang5",)):
        chosen = settings(scales=2).model_copy(update={"metrics": metrics})
        with pytest.raises(UsageError, match=r"--scales 2: none of the metrics"):
            scoring.score(real, real, context=CONTEXT, **dict(chosen))
