"""The detectable share of copies."""

from __future__ import annotations

import numpy as np

from synthbench.metrics.memorization import memorization
from synthbench.metrics.nearest import distances as distances_module
from tests.metrics.nearest.copies import near_copies, sets


def test_copies_of_the_share_that_is_called_detectable_are_found():
    """80% power, so of 30 new sets with that share of near copies at least 18 are found: fewer
    with a probability of 0.003.
    """
    claim = memorization(*sets(40, 40, 40, 16, seed=1000), permutations=199).detectable
    assert claim is not None
    found = 0
    for seed in range(30):
        synth, train, holdout = sets(40, 40, 40, 16, seed)
        count = round(claim * 40)
        synth[:count] = near_copies(
            np.random.default_rng(seed), train, count, distances_module.NEAR_COPY
        )
        found += memorization(synth, train, holdout, permutations=99, seed=seed).detected
    assert found >= 18


def test_few_images_have_little_power():
    """Of 3 and 3 images 20 labellings: the smallest share is 0.05, which takes every copy."""
    found = memorization(*sets(4, 3, 3), permutations=99)
    assert found.detectable is None
    assert found.text == "no copies found (power below 80% even at 50% copies)"
