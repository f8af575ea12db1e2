"""Seams of a volume along each axis."""

from __future__ import annotations

import numpy as np

from synthbench.metrics.radial_spectrum import QUANTUM
from synthbench.metrics.seams import seam_profiles


def test_a_slice_that_jumps_has_the_energy_of_its_second_difference():
    """One slice at 0.6 among 0.5: the second difference is -0.2 there and 0.1 beside it, whole
    planes of it, so that averages over patches are the same.
    """
    volume = np.full((16, 16, 16), 0.5, dtype=np.float32)
    volume[:, :, 7] = 0.6
    profiles = seam_profiles(volume, np.ones(volume.shape, dtype=bool), (4.0, 4.0, 4.0))
    expected = np.full(14, QUANTUM)
    expected[6] += 0.04  # the profile starts at the second slice
    expected[[5, 7]] += 0.01
    np.testing.assert_allclose(profiles[2], 10 * np.log10(expected), atol=1e-3)
    np.testing.assert_allclose(profiles[0], 10 * np.log10(QUANTUM), atol=1e-3)
