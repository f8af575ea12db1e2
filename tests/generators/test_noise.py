"""`noise`: its moments."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.cohort import majority_mask
from synthbench.cohorts.reading import read_cohort
from tests.generators.fitting import drawn, fitted


def test_noise_has_the_moments_of_the_brain(make_cohort, tmp_path):
    """Away from the clip at 0 and 1, the mean and spread in the mask are the training set's."""
    folder = make_cohort("real", n=6)
    volumes = read_cohort(folder).volumes()
    mask = majority_mask(volumes)
    inside = np.stack(list(volumes))[:, mask]
    samples = drawn(fitted("noise", folder, tmp_path), 20)
    assert samples[:, ~mask].max() == 0
    assert samples[:, mask].mean() == pytest.approx(inside.mean(), abs=0.01)
    assert samples[:, mask].std() == pytest.approx(inside.std(), abs=0.02)
