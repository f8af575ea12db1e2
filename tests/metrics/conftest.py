"""Volumes for the tests of memorization."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def brains():
    """Four synthetic, three training and five hold-out volumes of noise, and a mask."""
    rng = np.random.default_rng(0)
    shape = (6, 5, 4)
    mask = rng.random(shape) < 0.7
    synth, train, holdout = (
        [rng.random(shape).astype(np.float32) for _ in range(n)] for n in (4, 3, 5)
    )
    return synth, train, holdout, mask
