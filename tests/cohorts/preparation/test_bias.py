"""The bias field."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from synthbench.cohorts.preparation.bias import bias_field
from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.settings import BiasCorrection
from tests.cohorts.preparation.heads import CUBE, ball, bias


def test_the_bias_field_is_found_up_to_its_mean_and_on_any_number_of_threads():
    """A uniform ball with some texture under a known field: N4 gives the field's shape back."""
    inside = ball(16)
    texture = 100 + 2 * np.random.default_rng(0).standard_normal(CUBE.shape)
    image = Image((inside * texture * bias(CUBE)).astype(np.float32), CUBE)
    settings = BiasCorrection(iterations=(30, 30))
    field = bias_field(image, inside, 8.0, settings)
    left = np.log(field[inside] / bias(CUBE)[inside])
    assert left.std() < 0.02
    assert np.log(field[inside]).mean() == pytest.approx(0, abs=1e-5)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
        again = bias_field(image, inside, 8.0, settings)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    assert np.array_equal(again, field)
