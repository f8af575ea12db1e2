"""Which of several entries is better: differences on one real set, ranked with their error.

Entries that are scored on one real set share its sampling error, so a difference between two of
them is surer than their intervals suggest. Everything here is paired: a resample of the real
set is the same for every entry, and each entry's synthetic set is resampled on its own.

An image's part in the standard error of a difference is its part in the second entry less its
part in the first, where both hold the image. A `Linear` statistic states those parts under any
weights, which studentizes every resample. For any other statistic they come from leaving one
subject out, or for large sets from a `Differentiable`'s derivative.

References
----------
Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 11 and 12.
Romano and Wolf, "Exact and approximate stepdown methods for multiple hypothesis testing",
JASA 100 (2005): the maximum over pairs, of which the single step is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import ceil
from statistics import NormalDist
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError, near_miss
from synthbench.metrics import inference
from synthbench.metrics.inference import Differentiable, Linear
from synthbench.metrics.metric import Direction, Statistic, Weights, ones
from synthbench.metrics.pairs import n_subjects, variance_of_mean

ComparisonMethod = Literal["studentized", "jackknife"]

EQUIVALENCE_LEVEL = 0.9
"""Two one-sided tests at 5% are one interval at 90%."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Comparison:
    """The difference between two entries: second less first.

    Attributes
    ----------
    first, second
        The entries' names.
    difference
        In the metric's unit; for the direction "zero", of the two distances from zero.
    se
        Its standard error.
    low, high
        Its confidence interval.
    p
        Two-sided p of no difference. In a `Ranking`, adjusted for all pairs.
    level
        The nominal coverage of the interval; in a `Ranking`, of all intervals together.
    method
        How it was made.
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
        The ranks that the data allow: 1 + the number of entries that are significantly better,
        and K less the number that are significantly worse.
    best
        The share of resamples in which it is the best, a second figure only: it is no p-value,
        and ties share it out.
    """

    name: str
    value: float
    rank_low: int
    rank_high: int
    best: float


@dataclass(frozen=True)
class Ranking:
    """Entries of one benchmark, in order of their estimates, and which of them differ.

    Attributes
    ----------
    standings
        The entries, best estimate first.
    comparisons
        All pairs, simultaneous: intervals cover together, p are adjusted. The first of a pair
        stands before the second.
    split
        Those that differ significantly: the first is the better.
    direction
        Which way the metric is better.
    level
        1 less the probability that any pair is split by chance.
    resampled
        The value of each entry, in the order of `standings`, in each resample, recentred on its
        estimate; NaN where the resample was left out.
    resampled_t
        t* of each pair, in the order of `comparisons`, likewise. Rankings of the same entries
        under other metrics, by one seed and number of resamples, share their resamples row by
        row: side by side they are what `max_t` takes.
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
    """Whether a difference is within a margin that does not matter.

    Attributes
    ----------
    equivalent
        The 90% interval lies inside [-delta, delta].
    p
        Of the two one-sided tests, the larger, from the standard error (normal).
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
    """Compare two entries on one real set: second less first, with a paired interval.

    "studentized": with d the difference, V the variance of its first-order terms and
    t* = (d* - d)/sqrt(V*) over paired resamples, the interval is [d - q_hi sqrt(V),
    d - q_lo sqrt(V)], and p twice the smaller share of t* beyond d/sqrt(V). For MMD^2 this is
    V = 4 (var g_A/m_A + var g_B/m_B + var h/n), h_i = mean k(x_i, B) - mean k(x_i, A).
    "jackknife": d plus and minus normal quantiles of the standard error from leaving out one
    subject, of both entries at once where they share it. For statistics that are biased at
    small n: in a resample of copies the bias is another one, and no recentring mends a
    percentile interval. As their own interval, it is for the expected difference at this n, so
    compare sets of one size only.

    For the direction "zero" the difference is |second| - |first|. Resamples keep the sign of
    each entry's estimate, so that a value near zero is not folded. The interval errs on the
    wide side there.

    Parameters
    ----------
    first, second
        The metric of each entry, prepared against one real set.
    shared
        The roles that hold the same images in both entries and share their weights: "real",
        and "synth" where sample i of both comes from one seed. Other roles are independent.
    direction
        Which way the metric is better.
    method
        None is "studentized" where both are `Linear`, else "jackknife".
    resamples, level, seed
        Number of resamples, nominal coverage, and the seed of their stream; the jackknife
        draws nothing.
    names
        What to call the entries; a role that is not shared is resampled under its entry's name.

    Raises
    ------
    MetricError
        A shared role does not hold the same subjects in both, the statistic is undefined or
        does not vary, or the method is unknown or needs what the statistics do not give.
    """
    inference.check_level(level)
    if names[0] == names[1]:
        raise MetricError(f"comparison: both entries are named '{names[0]}'. Give two names.")
    statistics = dict(zip(names, (first, second), strict=True))
    chosen = _method(statistics, method)
    draws = resamples if chosen == "studentized" else 0
    pair = _pair(*_entries(statistics, shared, direction, chosen, draws, seed))
    d, se, t = pair.difference, pair.se, pair.t
    if chosen == "jackknife":
        z = NormalDist().inv_cdf((1 + level) / 2)
        low_t, high_t, excluded = -z, z, 0
        p = 2 * NormalDist().cdf(-abs(t))
    else:
        usable = np.isfinite(pair.resampled)
        excluded = inference.count_excluded(usable, first)
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

    t* of a pair is as in `paired_difference` where the method is "studentized". With
    "jackknife" the resamples give the joint shape of the differences and the jackknife their
    size: t* = (d* - mean d*)/sd d*, which drops the bias that copies in a resample bring.

    Entries are resampled under their names: adding one leaves the others' resamples as they
    are. A ranking compares the volumes at hand, not the methods that made them.

    Parameters
    ----------
    entries
        The metric of each entry, prepared against one real set.
    direction
        Which way the metric is better; for "zero", the differences are of distances from zero.
    shared, method, resamples, level, seed
        See `paired_difference`; both methods draw resamples.

    Raises
    ------
    MetricError
        There are fewer than two entries, or as in `paired_difference`.
    """
    inference.check_level(level)
    if len(entries) < 2:
        raise MetricError(f"ranking: found {len(entries)} entry. Give at least 2 to compare.")
    chosen = _method(entries, method)
    prepared = _entries(entries, shared, direction, chosen, resamples, seed)
    ordered = sorted(prepared, key=lambda entry: float(loss(entry.values[0], direction)))
    pairs = [_pair(first, second) for first, second in combinations(ordered, 2)]
    resampled = np.stack([pair.resampled for pair in pairs], axis=1)
    usable = np.isfinite(resampled).all(axis=1)
    excluded = inference.count_excluded(usable, ordered[0].statistic)
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


def max_t(
    observed: Float64[np.ndarray, " p"], resampled: Float64[np.ndarray, "b p"], *, level: float
) -> tuple[float, Float64[np.ndarray, " p"]]:
    """Critical value and adjusted p of several studentized differences at once (single step).

    The largest |t*| of each resample is what chance alone brings over all differences. Columns
    may be pairs of entries, or pairs under several metrics with the same resamples.

    Parameters
    ----------
    observed
        t of each difference.
    resampled
        t* of each difference, centred, one row a resample.
    level
        The simultaneous coverage.

    Returns
    -------
    critical
        |t| above it is significant, and d -+ critical * se are the simultaneous intervals.
    adjusted
        (1 + #{max |t*| >= |t|})/(b + 1); at most 1 - level exactly where |t| > critical.

    Raises
    ------
    MetricError
        There are too few resamples for the level.
    """
    largest = np.sort(np.abs(resampled).max(axis=1))
    place = ceil((len(largest) + 1) * level - _ROUNDING)
    if place > len(largest):
        raise MetricError(
            f"max-t: {len(largest)} resamples are too few for a level of {level}. Use 1000."
        )
    below = np.searchsorted(largest, np.abs(observed), side="left")
    adjusted: Float64[np.ndarray, " p"] = (1 + len(largest) - below) / (len(largest) + 1)
    return float(largest[place - 1]), adjusted


def holm(p_values: Sequence[float]) -> Float64[np.ndarray, " k"]:
    """Step-down adjusted p-values (Holm 1979), which hold the error over all k tests.

    The i-th smallest of k becomes the largest of (k - j + 1) p_(j) over j <= i, at most 1.

    Raises
    ------
    MetricError
        A p-value is not in [0, 1].

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise MetricError(
            f"holm: p-values must lie between 0 and 1; found {p.tolist()}. "
            "Leave out the metrics without a test."
        )
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def equivalence(comparison: Comparison, delta: float) -> Equivalence:
    """Two one-sided tests that a difference is within +-delta (Schuirmann 1987), at 5%.

    Parameters
    ----------
    comparison
        Made with a level of 0.9.
    delta
        The margin, in the metric's unit.

    Raises
    ------
    MetricError
        The level is another one, or `delta` is not positive.
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
    """The larger p of the tests of difference >= delta and difference <= -delta (normal)."""
    distance = delta - abs(difference)
    if se == 0:
        return float(distance <= 0)
    return NormalDist().cdf(-distance / se)


# One entry, and one pair


@dataclass(frozen=True)
class _Terms:
    """A role's images in an entry's standard error: V = `variance_of_mean` of their terms."""

    values: Float64[np.ndarray, "r n"]
    weights: Float64[np.ndarray, "r n"]
    index: Int64[np.ndarray, " n"]

    def variance(self) -> Float64[np.ndarray, " r"]:
        return variance_of_mean(self.values, self.weights, self.index)

    def less(self, other: _Terms) -> _Terms:
        return replace(self, values=self.values - other.values)

    def times(self, sign: float) -> _Terms:
        return replace(self, values=sign * self.values)


@dataclass(frozen=True)
class _Entry:
    """What comparisons need of an entry.

    `values` holds the value under all-ones weights, then of each resample. It and the terms are
    negated where the distance of a negative estimate from zero is compared. `own` is the
    variance by the roles that are not shared, `shared` the terms of the others; both have a row
    for each value (studentized) or one (jackknife).
    """

    name: str
    statistic: Statistic
    estimate: float
    values: Float64[np.ndarray, " 1+b"]
    own: Float64[np.ndarray, " r"]
    shared: Mapping[str, _Terms]


@dataclass(frozen=True)
class _Pair:
    """The difference of two entries, its standard error and t, and t* of each resample."""

    first: _Entry
    second: _Entry
    difference: float
    se: float
    t: float
    resampled: Float64[np.ndarray, " b"]


def _pair(first: _Entry, second: _Entry) -> _Pair:
    """Compare two entries; t* of a degenerate resample is NaN, t of equal entries is 0.

    Raises
    ------
    MetricError
        The entries differ with a standard error of zero.
    """
    differences = second.values - first.values
    variances = first.own + second.own
    for role, terms in first.shared.items():
        variances = variances + second.shared[role].less(terms).variance()
    d, se = float(differences[0]), float(np.sqrt(variances[0]))
    rounding = inference.RELATIVE_ZERO * max(abs(first.estimate), abs(second.estimate))
    if se > rounding:
        return _Pair(first, second, d, se, d / se, _resampled_t(differences, variances))
    if abs(d) <= rounding:
        return _Pair(first, second, d, 0.0, 0.0, np.zeros(len(differences) - 1))
    raise MetricError(
        f"comparison of {first.name} with {second.name}: they differ by {d:g} with a standard "
        "error of zero, so that there is nothing to compare with. Look for duplicated volumes."
    )


def _resampled_t(
    differences: Float64[np.ndarray, " 1+b"], variances: Float64[np.ndarray, " r"]
) -> Float64[np.ndarray, " b"]:
    observed, resampled = differences[0], differences[1:]
    t: Float64[np.ndarray, " b"]
    if len(variances) > 1:
        usable = variances[1:] > inference.RELATIVE_ZERO * variances[0]
        sds = np.sqrt(variances[1:], out=np.full(len(usable), np.nan), where=usable)
        t = (resampled - observed) / sds
    elif len(resampled):
        t = (resampled - np.nanmean(resampled)) / np.nanstd(resampled)
    else:
        t = resampled
    return t


def _entries(
    statistics: Mapping[str, Statistic],
    shared: Sequence[str],
    direction: Direction,
    method: ComparisonMethod,
    resamples: int,
    seed: int,
) -> list[_Entry]:
    _check_shared(statistics, shared)
    by_derivative = _by_derivative(statistics)
    entries = []
    for name, statistic in statistics.items():
        value = inference.estimate(statistic)
        # A stream of its own under a name of its own: equal seeds and sizes share nothing else.
        streams = {
            role: role if role in shared else f"{role} of {name}" for role in statistic.subjects
        }
        weights = _observed_and_resampled(statistic, streams, resamples, seed)
        if method == "studentized":
            terms = _linear_terms(statistic, weights)
        elif by_derivative:
            terms = _derivative_terms(statistic)
        else:
            terms = _jackknife_terms(statistic)
        sign = -1.0 if direction == "zero" and value < 0 else 1.0
        own = np.zeros(len(next(iter(terms.values())).values))
        for role, term in terms.items():
            if role not in shared:
                own = own + term.variance()
        entries.append(
            _Entry(
                name=name,
                statistic=statistic,
                estimate=value,
                values=sign * inference.evaluate(statistic.value, weights),
                own=own,
                shared={role: terms[role].times(sign) for role in terms if role in shared},
            )
        )
    return entries


def _observed_and_resampled(
    statistic: Statistic, streams: Mapping[str, str], resamples: int, seed: int
) -> dict[str, Float64[np.ndarray, "1+b n"]]:
    subjects = {stream: statistic.subjects[role] for role, stream in streams.items()}
    drawn = inference.bootstrap_weights(subjects, resamples, np.random.default_rng(seed))
    observed = ones(statistic)
    return {role: np.vstack([observed[role], drawn[stream]]) for role, stream in streams.items()}


def _linear_terms(statistic: Statistic, weights: Weights) -> dict[str, _Terms]:
    if not isinstance(statistic, Linear):
        raise MetricError(
            f"comparison: {type(statistic).__name__} has no contributions(weights), which "
            "method='studentized' needs. Use method='jackknife'."
        )
    return {
        role: _Terms(values, weights[role], statistic.subjects[role])
        for role, values in statistic.contributions(weights).items()
    }


def _derivative_terms(statistic: Statistic) -> dict[str, _Terms]:
    assert isinstance(statistic, Differentiable)
    return {
        role: _Terms(g[None, :], np.ones((1, len(g))), statistic.subjects[role])
        for role, g in statistic.influence().items()
    }


def _jackknife_terms(statistic: Statistic) -> dict[str, _Terms]:
    """Terms -(N - 1) U_-s of the N subjects: the variance of their mean is the jackknife's."""
    terms = {}
    for role in statistic.subjects:
        values = inference.leave_one_out_values(statistic, role)
        n = len(values)
        terms[role] = _Terms(-(n - 1) * values[None, :], np.ones((1, n)), np.arange(n))
    return terms


def _by_derivative(statistics: Mapping[str, Statistic]) -> bool:
    """Whether the infinitesimal jackknife is due, and every entry gives its derivative."""
    largest = max(len(index) for s in statistics.values() for index in s.subjects.values())
    return largest > inference.JACKKNIFE_MAX_IMAGES and all(
        isinstance(statistic, Differentiable) for statistic in statistics.values()
    )


def _method(
    statistics: Mapping[str, Statistic], method: ComparisonMethod | None
) -> ComparisonMethod:
    if method is None:
        linear = all(isinstance(statistic, Linear) for statistic in statistics.values())
        return "studentized" if linear else "jackknife"
    known = get_args(ComparisonMethod)
    if method not in known:
        raise MetricError(f"comparison: no method '{method}'; {near_miss(method, known)}")
    return method


def _check_shared(statistics: Mapping[str, Statistic], shared: Sequence[str]) -> None:
    names = list(statistics)
    for role in shared:
        for name in names:
            if role not in statistics[name].subjects:
                raise MetricError(
                    f"comparison: {name} has no role '{role}' to share; "
                    f"{near_miss(role, statistics[name].subjects)}"
                )
            index, other = (statistics[n].subjects[role] for n in (names[0], name))
            if not np.array_equal(index, other):
                raise MetricError(
                    f"comparison: {names[0]} and {name} must share the images of '{role}'; found "
                    f"{len(index)} of {n_subjects(index)} subjects and {len(other)} of "
                    f"{n_subjects(other)}. Score both against one {role} set."
                )


# A ranking


def _simultaneous(
    pair: _Pair,
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
    ordered: Sequence[_Entry], usable: Bool[np.ndarray, " b"]
) -> Float64[np.ndarray, "b k"]:
    """Values about their estimates: copies in a resample move a statistic biased at small n."""
    resampled = np.stack([entry.values[1:] for entry in ordered], axis=1)
    estimates = np.array([entry.values[0] for entry in ordered])
    about = resampled - resampled[usable].mean(axis=0) + estimates
    return np.where(usable[:, None], about, np.nan)


def _standings(
    ordered: Sequence[_Entry],
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
    """Values such that the smallest is the best."""
    losses: dict[Direction, Float64[np.ndarray, "*shape"]] = {
        "lower": values,
        "higher": -values,
        "zero": np.abs(values),
    }
    return losses[direction]
