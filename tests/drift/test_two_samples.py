from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthbench.drift.two_samples import Requested, Terms, compare_samples
from synthbench.metrics.prdc import Coverage
from tests.drift.cards import (
    EXTRACTOR,
    KEYS,
    N,
    features,
    sample_data_of,
)


@pytest.mark.slow
def test_the_generators_p_is_that_of_an_independent_permutation_test(card):
    """One bandwidth is what the maximum over five comes to where all five order alike.

    So a plain permutation test by scikit-learn's kernel, with labels of its own, gives p within
    four standard errors of both.
    """
    from sklearn.metrics.pairwise import rbf_kernel

    first, second = features(1), features(2, shift=0.18)
    pooled = np.concatenate([first, second])
    kernel = rbf_kernel(pooled, gamma=1 / (2 * 4.0**2))
    np.fill_diagonal(kernel, 0)
    rng = np.random.default_rng(9)

    def u(labels):
        a, b = labels, ~labels
        n = labels.sum()
        within = (kernel[np.ix_(a, a)].sum() + kernel[np.ix_(b, b)].sum()) / (n * (n - 1))
        return within - 2 * kernel[np.ix_(a, b)].mean()

    observed = np.arange(2 * N) < N
    values = np.array([u(rng.permutation(observed)) for _ in range(2000)])
    expected = float((values >= u(observed)).mean())
    one, other = (
        sample_data_of(card, features(0), x, fingerprint=n)
        for x, n in ((first, "b"), (second, "c"))
    )
    ((test,), _) = compare_samples(one, other, [], Terms(permutations=2000), extractors=[EXTRACTOR])
    assert 0.01 < expected < 0.5
    assert test.p == pytest.approx(expected, abs=0.02 + 4 * np.sqrt(expected / 2000))


def test_resamples_suffice_for_every_number_of_metrics(card):
    """Of 100, the smallest p is 2/101: doubled by Holm, 0.04 is above 0.025 at any change."""
    one, other = (
        sample_data_of(card, features(0), x, fingerprint=n)
        for x, n in ((features(1), "b"), (features(2, shift=2.0), "c"))
    )
    requested = [Requested(name, EXTRACTOR, name, "lower") for name in ("mmd2", "fid")]
    tests, rows = compare_samples(one, other, requested, Terms(resamples=100, permutations=30))
    assert [test.status for test in tests] == ["fail"]
    assert [row.status for row in rows] == ["fail", "fail"]


def test_neighbourhood_metrics_are_shown_and_fail_nothing(card):
    """Coverage, of the same features: a difference with its interval, and no adjusted p."""
    key = f"coverage | {EXTRACTOR}"

    def with_coverage(synth, fingerprint):
        sample_data = sample_data_of(card, features(0), synth, fingerprint=fingerprint)
        settings = {**sample_data.protocol.settings, key: {"k": 5, "formula": Coverage.formula}}
        return replace(
            sample_data,
            protocol=sample_data.protocol.model_copy(update={"settings": settings}),
            jobs={**sample_data.jobs, key: sample_data.jobs[KEYS[1]]},
        )

    requested = [
        Requested("coverage", EXTRACTOR, "Coverage", "higher", "descriptive"),
        Requested("fid", EXTRACTOR, "FID", "lower"),
    ]
    first = with_coverage(features(1), "b")
    second = with_coverage(features(2, spread=0.2), "c")
    _, rows = compare_samples(first, second, requested, extractors=())
    assert [(row.metric, row.status, row.p_adjusted is None) for row in rows] == [
        ("coverage", "shown", True), ("fid", "fail", False),
    ]  # fmt: skip
