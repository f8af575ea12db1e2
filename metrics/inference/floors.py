"""Real against real: the floor of a statistic at a given number of images."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference.contracts import Spread
from synthbench.metrics.inference.resampling import evaluate, one_set, random_ranks
from synthbench.metrics.metric import Direction, Statistic
from synthbench.metrics.subjects import n_subjects

POWER = 0.8
"""The probability with which an effect of `Spread.minimum_detectable_effect` is detected."""


def floor(
    statistic: Statistic,
    *,
    n: int | None = None,
    splits: int = 200,
    seed: int,
    direction: Direction = "lower",
) -> Spread:
    """Return the real-vs-real floor: the statistic between disjoint random halves of one set.

    Its `minimum_detectable_effect` is |c - mean| + z_0.8 sd, with c the edge of the floor on the
    side where a difference shows, and sd the standard deviation over the splits. A value with this
    expected excess falls beyond c with 80% probability (normal approximation), if its spread is
    that of the floor. A real difference usually widens the spread, so this is a lower bound.

    Parameters
    ----------
    statistic
        Prepared with the real set in both roles, "real" and "synth".
    n
        Subjects per side; None is half of them, rounded down.
    splits
        Number of random splits.
    seed
        Seed of the splits.
    direction
        The better side of the metric. A difference shows above the 97.5th percentile for
        "lower", below the 2.5th for "higher", beyond the one farther from the mean for "zero".

    Raises
    ------
    MetricError
        The two roles do not hold the same subjects, or there are fewer than two sides of `n`.
    """
    index = one_set(statistic, "floor", "(real, real)")
    available = n_subjects(index)
    side = available // 2 if n is None else n
    if not 2 <= side <= available // 2:
        raise MetricError(
            f"floor: two disjoint sides need at least 2 subjects each; found {available} "
            f"subjects for two sides of {side}. Use n between 2 and {available // 2}, "
            "or more real volumes."
        )
    ranks = random_ranks(available, splits, np.random.default_rng(seed))[:, index]
    first = (ranks < side).astype(np.float64)
    second = ((ranks >= side) & (ranks < 2 * side)).astype(np.float64)
    values = evaluate(statistic.value, {"real": first, "synth": second})
    spread = _spread(values, side)
    effect = _minimum_detectable_effect(spread, float(values.std()), direction)
    return replace(spread, minimum_detectable_effect=effect)


def matched(statistic: Statistic, n: int, *, repeats: int = 200, seed: int) -> Spread:
    """Return the statistic at `n` subjects per role, over random subsamples without replacement.

    It is comparable with `floor` at the same n, and at no other n.

    Raises
    ------
    MetricError
        `n` is below 2 or above the number of subjects of a role.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for role, index in sorted(statistic.subjects.items()):
        available = n_subjects(index)
        if not 2 <= n <= available:
            raise MetricError(
                f"matched: n must lie between 2 and the {available} subjects of {role}; "
                f"found {n}. Use a smaller n."
            )
        weights[role] = (random_ranks(available, repeats, rng)[:, index] < n).astype(np.float64)
    return _spread(evaluate(statistic.value, weights), n)


def _spread(values: Float64[np.ndarray, " r"], n: int) -> Spread:
    if not np.isfinite(values).all():
        raise MetricError(f"the statistic is undefined at {n} subjects per role. Use a larger n.")
    low, high = np.quantile(values, [0.025, 0.975])
    return Spread(float(values.mean()), float(low), float(high), n=n, repeats=len(values))


def _minimum_detectable_effect(spread: Spread, sd: float, direction: Direction) -> float:
    below, above = spread.mean - spread.low, spread.high - spread.mean
    edge = {"lower": above, "higher": below, "zero": max(below, above)}[direction]
    return edge + NormalDist().inv_cdf(POWER) * sd
