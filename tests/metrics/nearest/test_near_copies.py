"""Spacings of the two nearest subjects of a side."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.metrics.nearest.near_copies import (
    excess_spacings,
    near_copies_p,
    spacings,
)
from synthbench.metrics.nearest.rows import Ranked


def test_spacings_are_those_of_each_labelling():
    """Every labelling by itself: the second smallest less the smallest."""
    rng = np.random.default_rng(0)
    logs = rng.normal(size=(7, 10))
    side = rng.permuted(np.tile(np.arange(10) < 4, (20, 1)), axis=1)
    expected = [np.diff(np.sort(logs[:, row], axis=1)[:, :2], axis=1)[:, 0] for row in side]
    np.testing.assert_allclose(spacings(Ranked.of(logs), side), np.transpose(expected), atol=1e-12)


def test_only_what_exceeds_the_copy_size_counts():
    """Training: 0.1 to 1.0 exceeds 0.3 by 0.6. Hold-out: 0.5 to 0.7 does not exceed it."""
    logs, train = (
        Ranked.of(np.array([[0.1, 0.5, 1.0, 0.7]])),
        np.array([[True, False, True, False]]),
    )
    assert excess_spacings(logs, train, 0.3)[0, 0] == pytest.approx(0.6)
    assert excess_spacings(logs, ~train, 0.3)[0, 0] == 0
    assert excess_spacings(logs, train, np.inf)[0, 0] == 0


def test_p_is_the_share_of_labellings_and_over_draws_the_larger_of_two():
    """Differences 3, 1, 4, 2: two are at least 3. Training side 3, 3, 4, 4: all are."""
    train, holdout = np.array([[3.0, 3.0, 4.0, 4.0]]), np.array([[0.0, 2.0, 0.0, 2.0]])
    assert near_copies_p(train, holdout, 1) == 0.5
    assert near_copies_p(train, holdout, 16) == 1.0


@pytest.mark.parametrize("n", [50, 1000])
def test_the_spacing_depends_on_the_dimension_alone(n):
    """In 3 dimensions it is exponential with a mean of 1/3, for any number of images."""
    rng = np.random.default_rng(n)
    found = []
    for _ in range(400):
        distances = np.linalg.norm(rng.uniform(-1, 1, size=(n, 3)), axis=1)
        logs = Ranked.of(np.log(distances)[None, :])
        found.append(spacings(logs, np.ones((1, n), dtype=bool))[0, 0])
    assert stats.kstest(found, stats.expon(scale=1 / 3).cdf).pvalue > 0.001
