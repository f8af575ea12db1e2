"""Comparisons of entries on one real set: paired differences, rankings and equivalence.

Entries that are scored on one real set share its sampling error. So a difference between two of
them is more certain than their intervals suggest. All comparisons are paired: a resample of the
real set is the same for every entry, and each entry's synthetic set is resampled independently.

The standard error of a difference is made of one term per image. An image that both entries share
has the difference of its two terms. A `Linear` statistic gives its terms under any weights, so
every resample can be studentized. For other statistics the terms come from leaving one subject
out, or for large sets from the derivative of a `Differentiable`.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 11 and 12.
Romano and Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing",
JASA 100 (2005): the maximum over pairs, of which the single step is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference import resampling
from synthbench.metrics.inference.multiplicity import max_t
from synthbench.metrics.inference.terms import (
    ComparisonMethod,
    Entry,
    Pair,
    entries_of,
    method_for,
    pair_of,
)
from synthbench.metrics.metric import Direction, Statistic

EQUIVALENCE_LEVEL = 0.9
"""Level of the interval that gives two one-sided tests at 5%."""


@dataclass(frozen=True)
class Comparison:
    """The difference between two entries: second minus first.

    Attributes
    ----------
    first, second
        The entries' names.
    difference
        In the metric's unit; for the direction "zero", the difference of the distances from zero.
    se
        Its standard error.
    low, high
        Its confidence interval.
    p
        Two-sided p-value of no difference. In a `Ranking`, adjusted for all pairs.
    level
        The nominal coverage of the interval; in a `Ranking`, of all intervals together.
    method
        The method of the interval.
    excluded
        The number of degenerate resamples that were left out.
    """

    first: str
    second: str
    difference: float
    se: float
    low: float
    high: float
    p: float
    level: float
    method: ComparisonMethod
    excluded: int = 0


@dataclass(frozen=True)
class Standing:
    """An entry's place in a ranking.

    Attributes
    ----------
    name
        The entry.
    value
        Its estimate.
    rank_low, rank_high
        The ranks that the data allow: 1 plus the number of entries that are significantly better,
        and the number of entries minus the number that are significantly worse.
    best
        The share of resamples in which it is the best. It is no p-value: equal entries share it.
    """

    name: str
    value: float
    rank_low: int
    rank_high: int
    best: float


@dataclass(frozen=True)
class Ranking:
    """Entries of one benchmark, in order of their estimates, and their differences.

    Attributes
    ----------
    standings
        The entries, best estimate first.
    comparisons
        All pairs, with simultaneous intervals and adjusted p. The first of a pair comes before
        the second in `standings`.
    split
        The pairs that differ significantly: the first is the better.
    direction
        The better side of the metric.
    level
        One minus the probability that any pair is split by chance.
    resampled
        The value of each entry, in the order of `standings`, in each resample, recentred on its
        estimate; NaN where the resample was left out.
    resampled_t
        The t* of each pair, in the order of `comparisons`, in each resample; NaN likewise.
        Rankings of the same entries under other metrics, with one seed and number of resamples,
        have the same resamples row by row. So their columns can be joined for `max_t`.
    """

    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    split: tuple[Comparison, ...]
    direction: Direction
    level: float
    resampled: Float64[np.ndarray, "b k"] = field(repr=False, compare=False)
    resampled_t: Float64[np.ndarray, "b p"] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Equivalence:
    """The result of a test that a difference is within a margin that does not matter.

    Attributes
    ----------
    equivalent
        True where the 90% interval lies inside [-delta, delta].
    p
        The larger p-value of the two one-sided tests, from the standard error (normal).
    delta
        The margin, in the metric's unit.
    """

    equivalent: bool
    p: float
    delta: float


def paired_difference(
    first: Statistic,
    second: Statistic,
    *,
    shared: Sequence[str] = ("real",),
    direction: Direction = "lower",
    method: ComparisonMethod | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
    names: tuple[str, str] = ("first", "second"),
) -> Comparison:
    """Compare two entries on one real set: second minus first, with a paired interval.

    "studentized": with d the difference, V the variance of its first-order terms and
    t* = (d* - d)/sqrt(V*) over paired resamples, the interval is [d - q_hi sqrt(V),
    d - q_lo sqrt(V)], and p is twice the smaller share of t* beyond d/sqrt(V). For MMD^2,
    V = 4 (var g_A/m_A + var g_B/m_B + var h/n) with h_i = mean k(x_i, B) - mean k(x_i, A).

    "jackknife": d plus and minus normal quantiles times the standard error from leaving out one
    subject, in both entries at once where they share it. It is for statistics that are biased at
    small n: a resample with copies has a different bias, and no recentring corrects a percentile
    interval. Like the jackknife interval of one statistic, it is for the expected difference at
    this n. So compare sets of one size only.

    For the direction "zero" the difference is |second| - |first|. Resamples have the sign of each
    entry's estimate, so that values near zero are not folded. The interval is a little too wide
    there.

    Parameters
    ----------
    first, second
        The metric of each entry, prepared against one real set.
    shared
        The roles that hold the same images in both entries and share their weights: "real",
        and "synth" where sample i of both comes from one seed. Other roles are independent.
    direction
        The better side of the metric.
    method
        None is "studentized" where both are `Linear`, else "jackknife".
    resamples, level, seed
        Number of resamples, nominal coverage, and the seed of their stream; the jackknife
        draws nothing.
    names
        The names of the entries; a role that is not shared is resampled by its entry's name.

    Raises
    ------
    MetricError
        A shared role does not hold the same subjects in both, the statistic is undefined or
        does not vary, or the method is unknown or needs contributions that are missing.
    """
    resampling.check_level(level)
    if names[0] == names[1]:
        raise MetricError(
            f"comparison: the two names must differ; found '{names[0]}' twice. Give two names."
        )
    statistics = dict(zip(names, (first, second), strict=True))
    chosen = method_for(statistics, method)
    draws = resamples if chosen == "studentized" else 0
    pair = pair_of(*entries_of(statistics, shared, direction, chosen, draws, seed))
    d, se, t = pair.difference, pair.se, pair.t
    if chosen == "jackknife":
        z = NormalDist().inv_cdf((1 + level) / 2)
        low_t, high_t, excluded = -z, z, 0
        p = 2 * NormalDist().cdf(-abs(t))
    else:
        usable = np.isfinite(pair.resampled)
        excluded = resampling.count_excluded(usable, first)
        resampled = pair.resampled[usable]
        low_t, high_t = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
        beyond = min((resampled >= t).sum(), (resampled <= t).sum())
        p = min(1.0, 2 * (1 + int(beyond)) / (len(resampled) + 1))
    return Comparison(
        first=names[0],
        second=names[1],
        difference=d,
        se=se,
        low=float(d - high_t * se),
        high=float(d - low_t * se),
        p=p,
        level=level,
        method=chosen,
        excluded=excluded,
    )


def rank(
    entries: Mapping[str, Statistic],
    *,
    direction: Direction,
    shared: Sequence[str] = ("real",),
    method: ComparisonMethod | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Ranking:
    """Rank entries on one real set by all their paired differences, simultaneously (`max_t`).

    With "studentized", t* of a pair is that of `paired_difference`. With "jackknife", the
    resamples give the joint shape of the differences and the jackknife gives their size:
    t* = (d* - mean d*)/sd d*, without the bias from copies in a resample.

    The resamples of an entry depend on its name, and not on the other entries. A ranking compares
    the volumes that were scored, not the methods that made them.

    Parameters
    ----------
    entries
        The metric of each entry, prepared against one real set.
    direction
        The better side of the metric; for "zero", distances from zero are compared.
    shared, method, resamples, level, seed
        As for `paired_difference`; here both methods draw resamples.

    Raises
    ------
    MetricError
        There are fewer than two entries, or two entries cannot be compared (`paired_difference`).
    """
    resampling.check_level(level)
    if len(entries) < 2:
        raise MetricError(f"ranking: at least 2 entries are needed; found {len(entries)}. Add one.")
    chosen = method_for(entries, method)
    prepared = entries_of(entries, shared, direction, chosen, resamples, seed)
    ordered = sorted(prepared, key=lambda entry: float(loss(entry.values[0], direction)))
    pairs = [pair_of(first, second) for first, second in combinations(ordered, 2)]
    resampled = np.stack([pair.resampled for pair in pairs], axis=1)
    usable = np.isfinite(resampled).all(axis=1)
    excluded = resampling.count_excluded(usable, ordered[0].statistic)
    observed = np.array([pair.t for pair in pairs])
    critical, adjusted = max_t(observed, resampled[usable], level=level)
    comparisons = tuple(
        _simultaneous(pair, critical, p, level, chosen, excluded)
        for pair, p in zip(pairs, adjusted.tolist(), strict=True)
    )
    split = [c for c, t in zip(comparisons, observed, strict=True) if abs(t) > critical]
    values = _recentred(ordered, usable)
    return Ranking(
        standings=_standings(ordered, split, values[usable], direction),
        comparisons=comparisons,
        split=tuple(split),
        direction=direction,
        level=level,
        resampled=values,
        resampled_t=np.where(usable[:, None], resampled, np.nan),
    )


def equivalence(comparison: Comparison, delta: float) -> Equivalence:
    """Test that a difference is within +-delta: two one-sided tests at 5% (Schuirmann 1987).

    Parameters
    ----------
    comparison
        A comparison with a level of 0.9.
    delta
        The margin, in the metric's unit.

    Raises
    ------
    MetricError
        The level is not 0.9, or `delta` is not positive.
    """
    if comparison.level != EQUIVALENCE_LEVEL:
        raise MetricError(
            f"equivalence: the interval must be at {EQUIVALENCE_LEVEL:.0%}, for two one-sided "
            f"tests at 5%; found {comparison.level:.0%}. Compare with level=0.9."
        )
    if not delta > 0:
        raise MetricError(f"equivalence: delta must be positive; found {delta}. Use a margin.")
    inside = -delta < comparison.low and comparison.high < delta
    return Equivalence(inside, tost_p(comparison.difference, comparison.se, delta), delta)


def tost_p(difference: float, se: float, delta: float) -> float:
    """Return the larger p of the tests of difference >= delta and difference <= -delta (normal)."""
    distance = delta - abs(difference)
    if se == 0:
        return float(distance <= 0)
    return NormalDist().cdf(-distance / se)


def _simultaneous(
    pair: Pair,
    critical: float,
    p: float,
    level: float,
    method: ComparisonMethod,
    excluded: int,
) -> Comparison:
    d, se = pair.difference, pair.se
    return Comparison(
        first=pair.first.name,
        second=pair.second.name,
        difference=d,
        se=se,
        low=d - critical * se,
        high=d + critical * se,
        p=p,
        level=level,
        method=method,
        excluded=excluded,
    )


def _recentred(
    ordered: Sequence[Entry], usable: Bool[np.ndarray, " b"]
) -> Float64[np.ndarray, "b k"]:
    """Resampled values, shifted to the mean of the estimate: copies add bias at small n."""
    resampled = np.stack([entry.values[1:] for entry in ordered], axis=1)
    estimates = np.array([entry.values[0] for entry in ordered])
    about = resampled - resampled[usable].mean(axis=0) + estimates
    return np.where(usable[:, None], about, np.nan)


def _standings(
    ordered: Sequence[Entry],
    split: Sequence[Comparison],
    resampled: Float64[np.ndarray, "b k"],
    direction: Direction,
) -> tuple[Standing, ...]:
    losses = loss(resampled, direction)
    best = np.bincount(losses.argmin(axis=1), minlength=len(ordered)) / len(losses)
    return tuple(
        Standing(
            name=entry.name,
            value=entry.estimate,
            rank_low=1 + sum(pair.second == entry.name for pair in split),
            rank_high=len(ordered) - sum(pair.first == entry.name for pair in split),
            best=float(share),
        )
        for entry, share in zip(ordered, best, strict=True)
    )


def loss(
    values: Float64[np.ndarray, "*shape"], direction: Direction
) -> Float64[np.ndarray, "*shape"]:
    """Return the values, changed so that the smallest is the best."""
    losses: dict[Direction, Float64[np.ndarray, "*shape"]] = {
        "lower": values,
        "higher": -values,
        "zero": np.abs(values),
    }
    return losses[direction]
