"""`mixup`: its volumes lie between two training volumes, and the tests for copies say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import nnls

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.metrics.memorization import memorization
from tests.generators.fitting import drawn, fitted

SHAPE = (16, 16, 16)


def shares(samples, data):
    """The coefficients of the training volumes in each sample, by non-negative least squares."""
    columns = data.reshape(len(data), -1).T
    return np.array([nnls(columns, sample.ravel())[0] for sample in samples])


def volumes_of(folder):
    return np.stack(list(read_cohort(folder).volumes())).astype(np.float64)


def test_each_sample_is_a_convex_pair_of_training_volumes(make_cohort, tmp_path):
    """All weights come out of the sample alone: two of them, of sum 1; the rest is rounding."""
    folder = make_cohort("real", n=5, shape=SHAPE)
    found = shares(drawn(fitted("mixup", folder, tmp_path), 200), volumes_of(folder))
    assert np.allclose(found.sum(axis=1), 1, atol=0.02)
    pairs = np.sort(np.argsort(found, axis=1)[:, -2:], axis=1)
    assert np.allclose(np.sort(found, axis=1)[:, :-2], 0, atol=0.03)
    # alpha = 1 is uniform on [0, 1], and each of the 10 pairs is as likely.
    first = np.take_along_axis(found, pairs[:, :1], axis=1).ravel()
    assert stats.kstest(first, "uniform").pvalue > 0.01
    counts = np.unique(pairs, axis=0, return_counts=True)[1]
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > 0.01


def test_a_small_alpha_gives_near_copies_and_a_large_one_means_of_two(make_cohort, tmp_path):
    """The weight has variance 1 / (4 (2 alpha + 1))."""
    folder = make_cohort("real", n=4, shape=SHAPE)
    for alpha in (0.1, 20.0):
        run = fitted("mixup", folder, tmp_path / str(alpha), f"alpha={alpha}")
        largest = shares(drawn(run, 100), volumes_of(folder)).max(axis=1)
        # The larger of the two weights is as far from one half as the drawn one.
        spread = np.mean((largest - 0.5) ** 2)
        assert spread == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.25)


def test_the_test_for_copies_says_that_samples_are_nearer_to_training(make_cohort, tmp_path):
    """A point between two training volumes is nearer to them than any unseen volume is."""
    folder = make_cohort("real", n=20, shape=SHAPE)
    unseen = make_cohort("unseen", n=20, seed=1, shape=SHAPE)
    samples = drawn(fitted("mixup", folder, tmp_path), 20)
    rows = [a.reshape(20, -1) for a in (samples, volumes_of(folder), volumes_of(unseen))]
    found = memorization(*(row.astype(np.float64) for row in rows), permutations=199)
    assert found.text in (
        "exact or near copies", "nearer to training than to unseen images",
    )  # fmt: skip


def test_one_volume_makes_no_pair(make_cohort, tmp_path):
    with pytest.raises(UsageError, match="at least 2"):
        fitted("mixup", make_cohort("real", n=1, shape=SHAPE), tmp_path)
