"""The terms of a paired difference: estimates, variances and resamples of each entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.inference import intervals, resampling
from synthbench.metrics.inference.contracts import Differentiable, Linear
from synthbench.metrics.inference.pairs import variance_of_mean
from synthbench.metrics.metric import Direction, Statistic, Weights, ones
from synthbench.metrics.subjects import n_subjects

ComparisonMethod = Literal["studentized", "jackknife"]


@dataclass(frozen=True)
class _Terms:
    """The terms of one role's images: `variance_of_mean` of them is their part of a variance."""

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
class Entry:
    """The estimate, resampled values and variance of one entry, for comparisons.

    `values` holds the value under weights of one, then under each resample. Where distances from
    zero are compared and the estimate is negative, `values` and the terms have the opposite sign.
    `own` is the variance from roles that are not shared; `shared` holds the terms of the shared
    roles. Both have one row per value (studentized) or one row in all (jackknife).
    """

    name: str
    statistic: Statistic
    estimate: float
    values: Float64[np.ndarray, " 1+b"]
    own: Float64[np.ndarray, " r"]
    shared: Mapping[str, _Terms]


@dataclass(frozen=True)
class Pair:
    """The difference of two entries, its standard error and t, and t* of each resample."""

    first: Entry
    second: Entry
    difference: float
    se: float
    t: float
    resampled: Float64[np.ndarray, " b"]


def pair_of(first: Entry, second: Entry) -> Pair:
    """Return the difference of two entries; t* of a degenerate resample is NaN, t of equals is 0.

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
    rounding = resampling.RELATIVE_ZERO * max(abs(first.estimate), abs(second.estimate))
    if se > rounding:
        return Pair(first, second, d, se, d / se, _resampled_t(differences, variances))
    if abs(d) <= rounding:
        return Pair(first, second, d, 0.0, 0.0, np.zeros(len(differences) - 1))
    raise MetricError(
        f"comparison of {first.name} with {second.name}: the standard error must be above zero "
        f"where the values differ; found 0, and a difference of {d:g}. Look for duplicated "
        "volumes.",
        "no spread",
    )


def _resampled_t(
    differences: Float64[np.ndarray, " 1+b"], variances: Float64[np.ndarray, " r"]
) -> Float64[np.ndarray, " b"]:
    observed, resampled = differences[0], differences[1:]
    t: Float64[np.ndarray, " b"]
    if len(variances) > 1:
        usable = variances[1:] > resampling.RELATIVE_ZERO * variances[0]
        sds = np.sqrt(variances[1:], out=np.full(len(usable), np.nan), where=usable)
        t = (resampled - observed) / sds
    elif len(resampled):
        t = (resampled - np.nanmean(resampled)) / np.nanstd(resampled)
    else:
        t = resampled
    return t


def entries_of(
    statistics: Mapping[str, Statistic],
    shared: Sequence[str],
    direction: Direction,
    method: ComparisonMethod,
    resamples: int,
    seed: int,
) -> list[Entry]:
    """Return the entries with their terms and resamples, in the order of `statistics`.

    Raises
    ------
    MetricError
        A shared role does not hold the same subjects in all statistics, a role has different
        sizes under a metric that depends on n, or the method needs contributions that a statistic
        does not have.
    """
    _check_shared(statistics, shared)
    _check_sizes(statistics, shared)
    by_derivative = _by_derivative(statistics)
    entries = []
    for name, statistic in statistics.items():
        value = resampling.estimate(statistic)
        # A role that is not shared gets its own stream by its own name: otherwise equal seeds and
        # sizes would give two entries the same resamples.
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
            Entry(
                name=name,
                statistic=statistic,
                estimate=value,
                values=sign * resampling.values_of(statistic, weights),
                own=own,
                shared={role: terms[role].times(sign) for role in terms if role in shared},
            )
        )
    return entries


def _observed_and_resampled(
    statistic: Statistic, streams: Mapping[str, str], resamples: int, seed: int
) -> dict[str, Float64[np.ndarray, "1+b n"]]:
    subjects = {stream: statistic.subjects[role] for role, stream in streams.items()}
    drawn = resampling.bootstrap_weights(subjects, resamples, np.random.default_rng(seed))
    observed = ones(statistic)
    return {role: np.vstack([observed[role], drawn[stream]]) for role, stream in streams.items()}


def _linear_terms(statistic: Statistic, weights: Weights) -> dict[str, _Terms]:
    if not isinstance(statistic, Linear):
        raise MetricError(
            f"comparison: {type(statistic).__name__} has no contributions(weights), which "
            "method='studentized' needs. Use method='jackknife'.",
            "no comparison",
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
        values = resampling.leave_one_out_values(statistic, role)
        n = len(values)
        terms[role] = _Terms(-(n - 1) * values[None, :], np.ones((1, n)), np.arange(n))
    return terms


def _by_derivative(statistics: Mapping[str, Statistic]) -> bool:
    """True where a role is large and every entry gives its derivative."""
    largest = max(len(index) for s in statistics.values() for index in s.subjects.values())
    return largest > intervals.JACKKNIFE_MAX_IMAGES and all(
        isinstance(statistic, Differentiable) for statistic in statistics.values()
    )


def method_for(
    statistics: Mapping[str, Statistic], method: ComparisonMethod | None
) -> ComparisonMethod:
    """Return the method, or the default method of these statistics where it is None."""
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
                    f"{n_subjects(other)}. Score both against one {role} set.",
                    "other images",
                )


def depends_on_n(statistic: Statistic) -> bool:
    """Return True where the expected value depends on the number of images.

    This is the metric's target, the floor, where the statistic states it. Otherwise only a
    `Linear` statistic counts as independent of n: means over images or over pairs are unbiased.
    """
    unstated = "zero" if isinstance(statistic, Linear) else "floor"
    return getattr(statistic, "target", unstated) == "floor"


def _check_sizes(statistics: Mapping[str, Statistic], shared: Sequence[str]) -> None:
    first, *others = statistics
    if not any(depends_on_n(statistic) for statistic in statistics.values()):
        return
    for role, index in statistics[first].subjects.items():
        if role in shared:
            continue
        for name in others:
            other = statistics[name].subjects[role]
            if (len(index), n_subjects(index)) != (len(other), n_subjects(other)):
                raise MetricError(
                    f"comparison: {first} and {name} must have equally many images of '{role}', "
                    "because the expected value of this metric depends on their number; found "
                    f"{len(index)} of {n_subjects(index)} subjects and {len(other)} of "
                    f"{n_subjects(other)}. Score equally many of each, or compare by a metric "
                    "whose target is zero, such as mmd2.",
                    "other numbers",
                )
