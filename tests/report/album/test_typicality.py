from __future__ import annotations

import numpy as np

from synthbench.report.album.typicality import typicality


def test_typicality_is_the_mean_kernel():
    """One real row at distance 0 and one at distance l sqrt(2 ln 4): (1 + 1/4) / 2."""
    real = np.array([[0.0, 0.0], [2 * np.sqrt(2 * np.log(4)), 0.0]])
    found = typicality(np.array([[0.0, 0.0]]), real, bandwidth=2.0)
    np.testing.assert_allclose(found, [0.625])
