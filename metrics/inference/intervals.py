"""Intervals and standard errors, written once for every metric.

All functions work on a `Statistic`, a function of weights over images, and resample subjects:
images of one subject always have one weight. `bootstrap_weights` documents the random stream;
equal seeds and subjects give equal numbers, whatever the chunk size.

A resample can be degenerate: it may hold one subject only, which leaves no pair of distinct
subjects (the value is NaN), or so few that its variance is zero (no studentized value). Such
resamples are left out and counted (`Interval.excluded`). A share above `MAX_EXCLUDED` is an
error, because so many missing resamples would change both tails.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.inference.contracts import Differentiable, Interval, JointlyStudentized
from synthbench.metrics.inference.pairs import variance_of_mean
from synthbench.metrics.inference.resampling import (
    NUMBERS_PER_IMAGE,
    RELATIVE_ZERO,
    bootstrap_weights,
    check_level,
    count_excluded,
    count_subjects,
    estimate,
    evaluate,
    leave_one_out_values,
)
from synthbench.metrics.metric import IntervalMethod, Statistic, Studentized, Weights, ones

JACKKNIFE_MAX_IMAGES = 200
"""Above this many images in a role, the infinitesimal jackknife replaces the delete-one one."""


def studentized_interval(
    statistic: Studentized, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """Return the studentized (bootstrap-t) interval.

    With the estimate U, its variance V, and t* = (U* - U)/sqrt(V*) of the resamples, the interval
    is [U - q_hi sqrt(V), U - q_lo sqrt(V)], where q_lo and q_hi are quantiles of t* (Efron and
    Tibshirani 1993, section 12.5).

    Parameters
    ----------
    statistic
        A statistic that estimates its own variance.
    resamples, level, seed
        Number of resamples, nominal coverage, and the seed of their stream.

    Raises
    ------
    MetricError
        The variance is zero, or more than `MAX_EXCLUDED` of the resamples are degenerate.
    """
    check_level(level)
    value = estimate(statistic)
    variance = float(statistic.variance(ones(statistic))[0])
    if not np.sqrt(max(variance, 0.0)) > RELATIVE_ZERO * abs(value):
        raise MetricError(
            "studentized interval: the estimated variance must be above zero, but the variance is "
            f"{variance:g} (all images are equal, or there are too few of them); found "
            f"{count_subjects(statistic)}. Look for duplicated volumes, or use --ci percentile."
        )
    weights = bootstrap_weights(statistic.subjects, resamples, np.random.default_rng(seed))
    values, variances = _values_and_variances(statistic, weights)
    usable = np.isfinite(values) & (variances > RELATIVE_ZERO * variance)
    excluded = count_excluded(usable, statistic)
    t = (values[usable] - value) / np.sqrt(variances[usable])
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    sd = np.sqrt(variance)
    return Interval(
        low=float(value - high * sd),
        high=float(value - low * sd),
        level=level,
        method="studentized",
        label=f"{level:.0%} CI (studentized bootstrap)",
        excluded=excluded,
    )


def _values_and_variances(
    statistic: Studentized, weights: Weights
) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
    if not isinstance(statistic, JointlyStudentized):
        return evaluate(statistic.value, weights), evaluate(statistic.variance, weights)
    widest = max(w.shape[1] for w in weights.values())
    both = evaluate(
        lambda w: np.stack(statistic.value_and_variance(w), axis=1),
        weights,
        numbers_per_row=NUMBERS_PER_IMAGE * widest,
    )
    return both[:, 0], both[:, 1]


def percentile_interval(
    statistic: Statistic, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """Return percentiles of the plain bootstrap of subjects.

    Raises
    ------
    MetricError
        More than `MAX_EXCLUDED` of the resamples are degenerate.
    """
    check_level(level)
    weights = bootstrap_weights(statistic.subjects, resamples, np.random.default_rng(seed))
    values = evaluate(statistic.value, weights)
    usable = np.isfinite(values)
    excluded = count_excluded(usable, statistic)
    low, high = np.quantile(values[usable], [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        method="percentile",
        label=f"{level:.0%} percentile bootstrap interval",
        excluded=excluded,
    )


def jackknife_se(statistic: Statistic) -> float:
    """Return the delete-one-subject standard error of all roles together.

    SE^2 = sum over roles of (N - 1)/N sum_s (U_-s - mean U_-.)^2, with N the role's subjects
    (Efron and Tibshirani 1993, equation 11.5).

    Raises
    ------
    MetricError
        Leaving one subject out makes the statistic undefined.
    """
    square = 0.0
    for role in statistic.subjects:
        values = leave_one_out_values(statistic, role)
        square += (len(values) - 1) * float(np.var(values))
    return float(np.sqrt(square))


def infinitesimal_jackknife_se(statistic: Differentiable) -> float:
    """Return the standard error from the derivative g: SE^2 = sum over roles of var g / n.

    The variance is that of a mean over subjects (`variance_of_mean`).

    Raises
    ------
    MetricError
        A role has a single subject.
    """
    square = 0.0
    for role, g in statistic.influence().items():
        index = statistic.subjects[role]
        square += float(variance_of_mean(g[None, :], np.ones((1, len(g))), index)[0])
    if not np.isfinite(square):
        raise MetricError(
            f"jackknife: found {count_subjects(statistic)}. Give every role at least 2 subjects."
        )
    return float(np.sqrt(square))


def jackknife_interval(statistic: Statistic, *, level: float = 0.95) -> Interval:
    """Return the estimate plus and minus normal quantiles times its jackknife standard error.

    Above `JACKKNIFE_MAX_IMAGES` images in a role, a `Differentiable` statistic uses the
    infinitesimal jackknife. The interval is for the statistic's expectation at this n. Where the
    statistic is biased, as the Frechet distance is, it does not cover the population's value.
    """
    check_level(level)
    value = estimate(statistic)
    large = max(len(index) for index in statistic.subjects.values()) > JACKKNIFE_MAX_IMAGES
    if large and isinstance(statistic, Differentiable):
        se = infinitesimal_jackknife_se(statistic)
    else:
        se = jackknife_se(statistic)
    z = NormalDist().inv_cdf((1 + level) / 2)
    return Interval(
        low=value - z * se,
        high=value + z * se,
        level=level,
        method="jackknife",
        label=f"{level:.0%} CI for the expected value at this n (excludes bias)",
        conditional_on_n=True,
    )


def interval(
    statistic: Statistic,
    method: IntervalMethod,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """Return the interval of the named method; the jackknife draws nothing and ignores the seed.

    Raises
    ------
    MetricError
        The method is unknown, or needs a variance that the statistic does not have.
    """
    if method == "jackknife":
        return jackknife_interval(statistic, level=level)
    if method == "percentile":
        return percentile_interval(statistic, resamples=resamples, level=level, seed=seed)
    if method == "studentized":
        if not isinstance(statistic, Studentized):
            raise MetricError(
                f"--ci studentized: {type(statistic).__name__} has no variance(weights). "
                "Use --ci jackknife or --ci percentile."
            )
        return studentized_interval(statistic, resamples=resamples, level=level, seed=seed)
    known = ("jackknife", "percentile", "studentized")
    raise MetricError(f"--ci {method}: no such interval method; {near_miss(method, known)}")
