"""The cleaning of sampled volumes."""

from __future__ import annotations

import numpy as np

from synthbench.sampling.source import brain_only

# ---------------------------------------------------------------- cleaning


def test_brain_only_keeps_the_largest_component_and_its_holes():
    """A 6 x 6 x 6 cube of 0.8 with a dark hole, a 2 x 2 x 2 speck, and faint noise around."""
    volume = np.full((16, 16, 16), 0.02, np.float32)
    volume[4:10, 4:10, 4:10] = 0.8
    volume[6, 6, 6] = 0.01
    volume[12:14, 12:14, 12:14] = 0.9
    expected = np.zeros_like(volume)
    expected[4:10, 4:10, 4:10] = volume[4:10, 4:10, 4:10]
    cleaned = brain_only(volume)
    assert cleaned.dtype == np.float32
    assert np.array_equal(cleaned, expected)
    assert not brain_only(np.full((4, 4, 4), 0.04, np.float32)).any()
