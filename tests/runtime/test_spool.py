"""Arrays in memory or in a temporary file."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from synthbench.runtime.spool import Spool


@pytest.mark.parametrize("most", [0, 1000, 10**6])
def test_arrays_come_back_as_they_were(most):
    rng = np.random.default_rng(0)
    arrays: list[np.ndarray] = [
        rng.standard_normal((3, 4, 5)).astype(np.float16),
        rng.standard_normal((7, 6))[::-1, ::2],
        np.zeros((0, 2), np.float32),
        rng.integers(0, 9, 4000),
    ]
    spool = Spool(most)
    kept = [spool.keep(array) for array in arrays]
    del spool
    gc.collect()
    for one, array in zip(reversed(kept), reversed(arrays), strict=True):
        assert one.array.dtype == array.dtype
        np.testing.assert_array_equal(one.array, array)


def test_threads_share_a_spool():
    spool = Spool(500)
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda i: spool.keep(np.full(100, i)), range(200)))
        read = list(pool.map(lambda one: one.array, kept))
    for i, array in enumerate(read):
        np.testing.assert_array_equal(array, np.full(100, i))
