"""The blur under a Gaussian window, against SciPy."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from synthbench.metrics.similarity import windows
from tests.metrics.similarity.examples import volumes


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
