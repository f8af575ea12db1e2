"""The brain mask."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.brain import checked_volume_ml
from synthbench.cohorts.preparation.image import Image
from synthbench.errors import CohortError
from tests.cohorts.preparation.heads import CUBE


def test_a_brain_of_an_impossible_size_counts_as_failed():
    """1000 voxels of 4 mm are 64 mL."""
    mask = np.zeros(CUBE.shape, np.float32)
    mask[:10, :10, :10] = 1
    assert checked_volume_ml(Image(mask, CUBE), (60, 70)) == 64
    with pytest.raises(CohortError, match="holds 64 mL; 600 to 2600 are possible"):
        checked_volume_ml(Image(mask, CUBE), (600, 2600))
