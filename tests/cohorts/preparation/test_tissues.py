"""The tissues' intensities and their scale."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.settings import TissueScale
from synthbench.cohorts.preparation.tissues import Tissues, scaled, tissue_intensities
from synthbench.errors import CohortError


def test_tissue_means_are_those_the_values_were_drawn_from():
    """A third of each tissue; the priors favour the true one 8:1:1."""
    rng = np.random.default_rng(0)
    tissue = rng.integers(3, size=30_000)
    values = rng.normal(np.array([200, 500, 700])[tissue], np.array([60, 50, 30])[tissue])
    odds = np.where(np.arange(3)[:, None] == tissue, 0.8, 0.1).astype(np.float32)
    found = tissue_intensities(values.astype(np.float32), odds)
    assert (found.fluid, found.grey, found.white) == pytest.approx((200, 500, 700), abs=4)
    assert found.white_sd == pytest.approx(30, abs=2)
    with pytest.raises(CohortError, match="T1-weighted"):
        tissue_intensities((1000 - values).astype(np.float32), odds)


def test_tissues_are_mapped_to_their_intensities_and_the_rest_in_between():
    """By hand: 500 to 0.55, 700 to 0.8; half of 500 to half of 0.55; 860 and beyond to 1."""
    values = np.array([[[0, 250, 500, 600, 700, 780, 860, 2000]]], np.float32)
    mapped = scaled(values, Tissues(200, 500, 700, 30), TissueScale(grey=0.55, white=0.8))
    assert mapped.ravel() == pytest.approx([0, 0.275, 0.55, 0.675, 0.8, 0.9, 1, 1])
