"""A permutation test that works for any statistic."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.multiplicity import combined_p
from synthbench.metrics.inference.resampling import (
    RELATIVE_ZERO,
    equal_draws,
    one_set,
    random_ranks,
    values_of,
)
from synthbench.metrics.metric import Direction, Statistic
from synthbench.metrics.subjects import n_subjects


def permutation_test(
    statistic: Statistic,
    real: Bool[np.ndarray, " n"],
    *,
    permutations: int = 1000,
    seed: int,
    direction: Direction = "lower",
) -> float:
    """Test that both sets come from one distribution, by a permutation of the labels.

    The labels "real" and "synth" are given to random subjects, in the same numbers as observed,
    and the metric between the two sides is computed again: p = (1 + #{permuted at least as far
    as observed}) / (permutations + 1). The test is exact at any n where subjects are
    exchangeable. For "zero", p is twice the smaller of the two one-sided p, at most 1.

    Subjects with different numbers of images are not exchangeable. So equally many images of each
    subject are drawn, `DRAWS` times, and `combined_p` combines the p of the draws. Each draw has
    `DRAWS` times as many labellings.

    Settings of the statistic must come from the pooled set, or be frozen before the labels were
    known. Settings that depend on the labels make the test inexact.

    Parameters
    ----------
    statistic
        Prepared with the pooled set, real and synthetic images, in both roles.
    real
        True for the pooled images that are real.
    permutations
        Number of random labellings.
    seed
        Seed of the labellings.
    direction
        The better side of the metric. Large values are far for "lower", small ones for
        "higher", both for "zero".

    Returns
    -------
    p in [1/(permutations + 1), 1].

    Raises
    ------
    MetricError
        The two roles do not hold the same subjects, `real` does not fit them or splits a
        subject, `permutations` is below 1, or the metric is undefined on a labelling.

    Examples
    --------
    >>> from synthbench.metrics.mmd import MMD2
    >>> x = np.random.default_rng(0).normal(size=(20, 2))
    >>> x[10:] += 3
    >>> permutation_test(MMD2().prepare(x, x), np.arange(20) < 10, permutations=99, seed=1)
    0.01
    """
    index = one_set(statistic, "permutation test", "(pooled, pooled)")
    _check_labels(np.asarray(real), index)
    if permutations < 1:
        raise MetricError(f"permutations must be at least 1; found {permutations}. Use 1000.")
    n_real, rng = len(np.unique(index[real])), np.random.default_rng(seed)
    draws = equal_draws(index, int(np.bincount(index).min()), rng.spawn(1)[0])
    ranks = random_ranks(n_subjects(index), len(draws) * permutations, rng)
    labels = np.vstack([real, (ranks < n_real)[:, index]]).astype(np.float64)
    p = []
    for drawn in draws:
        weights = {"real": labels * drawn, "synth": (1 - labels) * drawn}
        values = values_of(statistic, weights)
        if not np.isfinite(values).all():
            raise MetricError(
                "permutation test: the statistic is undefined on a labelling; found "
                f"{n_real} real of {n_subjects(index)} subjects. Give both sets more subjects.",
                "undefined",
                found=min(n_real, n_subjects(index) - n_real),
            )
        p.append(_p(values, direction))
    return combined_p(p)


def _p(values: Float64[np.ndarray, " 1+b"], direction: Direction) -> float:
    """Return p of the observed labelling's value, the first one."""
    # Labellings with the observed value count, also where rounding makes them a little smaller.
    rounding = RELATIVE_ZERO * float(np.abs(values).max())
    above = float((1 + (values[1:] >= values[0] - rounding).sum()) / len(values))
    below = float((1 + (values[1:] <= values[0] + rounding).sum()) / len(values))
    return {"lower": above, "higher": below, "zero": min(1.0, 2 * min(above, below))}[direction]


def _check_labels(real: np.ndarray, index: Int64[np.ndarray, " n"]) -> None:
    if real.shape != index.shape or real.dtype != np.bool_:
        raise MetricError(
            f"permutation test: real must be a boolean for each of the {len(index)} pooled "
            f"images; found shape {real.shape} of {real.dtype}. Give True for the real ones."
        )
    both = np.intersect1d(index[real], index[~real])
    if len(both):
        raise MetricError(
            f"permutation test: a subject must be real or synthetic; found {len(both)} in both "
            "sets. Give the synthetic images subjects of their own."
        )
