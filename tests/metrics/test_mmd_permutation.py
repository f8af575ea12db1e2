"""The permutation test of MMD^2."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics import mmd_permutation
from synthbench.metrics.inference.resampling import DRAWS
from tests.metrics.discrepancies import rbf_double_sums, sets


def test_permutation_p_is_uniform_under_the_null():
    """An exact test rejects with probability at most 0.1 at level 0.1, and nearly that: 200
    seeded trials stay inside the central 99.9% of the binomial.
    """
    rng = np.random.default_rng(0)
    p = np.array(
        [
            mmd_permutation.permutation_p(
                rng.normal(size=(12, 3)), rng.normal(size=(10, 3)), 2.0, permutations=99, seed=s
            )
            for s in range(200)
        ]
    )
    low, high = stats.binom.interval(0.999, 200, 0.1)
    assert low <= (p <= 0.1).sum() <= high
    low, high = stats.binom.interval(0.999, 200, 0.5)
    assert low <= (p <= 0.5).sum() <= high


def test_permutation_p_is_that_of_the_definition():
    """Labellings drawn as documented, U by double sums, its maximum over the five bandwidths."""
    x, y = sets(n=6, m=5, shift=0.8)
    pooled = np.concatenate([x, y])
    observed = np.arange(11) < 6
    rng = np.random.default_rng(3)
    labels = np.vstack([observed, rng.permuted(np.tile(observed, (40, 1)), axis=1)])
    scores = []
    for bandwidth in 1.3 * np.array([0.25, 0.5, 1, 2, 4]):
        u = np.array([rbf_double_sums(pooled[r], pooled[~r], bandwidth) for r in labels])
        scores.append((u - u.mean()) / u.std())
    largest = np.max(scores, axis=0)
    expected = (1 + (largest[1:] >= largest[0] - 1e-9).sum()) / 41
    assert mmd_permutation.permutation_p(x, y, 1.3, permutations=40, seed=3) == pytest.approx(
        expected
    )


def test_permutation_p_is_smallest_for_sets_apart():
    """No labelling of separated sets but the observed one and its mirror reaches the observed
    statistic: p = 1/(B + 1).
    """
    x, y = sets(n=12, m=10, shift=20)
    assert mmd_permutation.permutation_p(x, y, 2.0, permutations=199, seed=0) == 1 / 200


def test_permutation_p_of_two_subjects_a_set_counts_the_labellings():
    """Two subjects per set have C(4, 2) = 6 labellings, two of which (observed, mirrored) give
    the observed split: p is near 1/3, however many scans each subject has.
    """
    rng = np.random.default_rng(0)
    centres = np.array([[0.0], [0.1], [9.0], [9.1]])
    scans = np.repeat(centres, 5, axis=0) + 0.001 * rng.normal(size=(20, 1))
    labels = {"real": np.repeat([0, 1], 5), "synth": np.repeat([0, 1], 5)}
    p = mmd_permutation.permutation_p(
        scans[:10], scans[10:], 1.0, permutations=600, seed=0, subjects=labels
    )
    low, high = stats.binom.interval(0.999, 600, 1 / 3)
    assert (1 + low) / 601 <= p <= (1 + high) / 601


def test_the_permutation_test_refuses_a_subject_in_both_sets():
    x, y = sets(n=3, m=3)
    labels = {"real": np.array(["a", "b", "c"]), "synth": np.array(["c", "d", "e"])}
    with pytest.raises(MetricError, match="first: 'c'"):
        mmd_permutation.permutation_p(x, y, 1.0, seed=0, subjects=labels)
    with pytest.raises(MetricError, match="permutations"):
        mmd_permutation.permutation_p(x, y, 1.0, permutations=0, seed=0)


@pytest.mark.parametrize("paired", [False, True])
def test_copies_of_a_scan_change_no_p(paired):
    """Whichever scan of a subject is drawn, it is the same volume: p is that of the first ones,
    with `DRAWS` times as many labellings.
    """
    x, y = sets(n=9, m=9, shift=0.6)
    index = {"real": np.repeat(np.arange(9), 3), "synth": np.array([*range(9), 0, 0, 4])}
    alone = mmd_permutation.permutation_p(x, y, 1.3, permutations=60 * DRAWS, seed=3, paired=paired)
    p = mmd_permutation.permutation_p(
        x[index["real"]], y[index["synth"]], 1.3, permutations=60, seed=3, paired=paired,
        subjects=index,
    )  # fmt: skip
    assert p == pytest.approx(alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("real", "synth", "icc"), [((15, 1), (60, 4), 0.0), ((24, 3), (86, 1), 0.3)]
)
def test_the_level_holds_where_subjects_have_different_numbers_of_scans(real, synth, icc):
    """One distribution, scans of a subject with the intraclass correlation icc. At 5%, 100 trials
    reject at most the 99.9th percentile of the binomial; permuting all scans of whole subjects
    rejects far more often in the first design.
    """
    rng = np.random.default_rng(1)

    def scans(subjects: int, each: int) -> tuple[np.ndarray, np.ndarray]:
        index = np.repeat(np.arange(subjects), each)
        shared = rng.normal(size=(subjects, 8))[index]
        own = rng.normal(size=(len(index), 8))
        return np.sqrt(icc) * shared + np.sqrt(1 - icc) * own, index

    rejected = 0
    for trial in range(100):
        (x, of_x), (y, of_y) = scans(*real), scans(*synth)
        p = mmd_permutation.permutation_p(
            x, y, 4.0, permutations=19, seed=trial, subjects={"real": of_x, "synth": of_y}
        )
        rejected += p <= 0.05
    assert rejected <= stats.binom.ppf(0.999, 100, 0.05)
