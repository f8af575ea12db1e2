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

import math
from dataclasses import replace
from statistics import NormalDist
from typing import get_args

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtrit

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.inference.contracts import (
    Blocked,
    Bounded,
    Differentiable,
    Interval,
    JointlyStudentized,
    SquaredDistance,
    Transformed,
)
from synthbench.metrics.inference.pairs import subject_sums, variance_of_mean
from synthbench.metrics.inference.resampling import (
    NUMBERS_PER_IMAGE,
    RELATIVE_ZERO,
    bootstrap_chunks,
    check_level,
    count_excluded,
    count_one_weights,
    count_subjects,
    estimate,
    evaluate,
    fewest,
    is_large,
    jackknife_units,
    leave_one_out_values,
    rows_at_once,
    values_of,
)
from synthbench.metrics.metric import IntervalMethod, Statistic, Studentized, Weights, ones
from synthbench.metrics.subjects import n_subjects

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
            f"{count_subjects(statistic)}. Look for duplicated volumes, or use --ci percentile.",
            "no spread",
        )
    values, variances = _values_and_variances(statistic, resamples, seed)
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
    statistic: Studentized, resamples: int, seed: int
) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
    """Return the value and the variance under each resample."""
    rng = np.random.default_rng(seed)
    rows = _rows_of_resamples(statistic, resamples)
    chunks = bootstrap_chunks(statistic.subjects, resamples, rng, rows)
    found = [_both(statistic, weights) for weights in chunks]
    return np.concatenate([v for v, _ in found]), np.concatenate([s for _, s in found])


def _rows_of_resamples(statistic: Statistic, resamples: int) -> int:
    """Return how many resamples are in memory at a time: all of them, unless the set is large."""
    large = isinstance(statistic, Blocked) or is_large(statistic)
    return rows_at_once(statistic) if large else resamples


def _both(
    statistic: Studentized, weights: Weights
) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
    if isinstance(statistic, Blocked) and isinstance(statistic, JointlyStudentized):
        return statistic.value_and_variance(weights)
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
    rng = np.random.default_rng(seed)
    rows = _rows_of_resamples(statistic, resamples)
    chunks = bootstrap_chunks(statistic.subjects, resamples, rng, rows)
    values = np.concatenate([values_of(statistic, weights) for weights in chunks])
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
    (Efron and Tibshirani 1993, equation 11.5), or the groups of subjects of a large set
    (`jackknife_units`).

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
            f"jackknife: found {count_subjects(statistic)}. Give every role at least 2 subjects.",
            "too few subjects",
            needed=2,
            found=fewest(statistic),
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


def central_jackknife_variance(statistic: Statistic) -> float:
    """Return the variance from leaving out each subject in turn and from counting it twice.

    In a large set, these are groups of subjects (`jackknife_units`).

    The deviations of both are averaged before they are squared. A share of images within
    neighbourhoods jumps when an image is left out or repeated; half of these jumps cancel. The
    delete-one jackknife alone is 1.4 to 2 times too wide for such shares (docs/coverage.md).

    Raises
    ------
    MetricError
        Leaving one subject out makes the statistic undefined.
    """
    value, variance = estimate(statistic), 0.0
    for role in statistic.subjects:
        without = leave_one_out_values(statistic, role)
        twice = values_of(statistic, count_one_weights(statistic.subjects, role, 2))
        n = len(without)
        deviations = ((n - 1) * (value - without) + (n + 1) * (twice - value)) / 2
        variance += float(np.var(deviations)) / max(n - 1, 1)
    return variance


def score_interval(statistic: Bounded, *, level: float = 0.95) -> Interval:
    """Return the score interval of a share, or of a mean that is zero or more.

    For a share p it is Wilson's (1927, JASA 22), with the effective number of images
    p (1 - p) / V in place of n, as in surveys (Korn and Graubard 1998, Survey Methodology 24). V
    is `central_jackknife_variance`, and at least the variance of a share of N independent images,
    with N the subjects or the distinct images of the smaller set. So a share of 1 has an interval
    too: the images at hand cannot show that no other image is missed. Student's t with N - 1
    degrees of freedom replaces the normal quantile. Where there is no upper bound, the variance
    is in proportion to the mean. The interval is for the expected value at this n.

    Raises
    ------
    MetricError
        The statistic has no lower bound, or is undefined without one of the subjects.
    """
    check_level(level)
    low, high = statistic.bounds
    if not math.isfinite(low):
        raise MetricError(
            f"--ci score: {type(statistic).__name__} has no lowest value. Use --ci jackknife or "
            "--ci percentile.",
            "no interval",
        )
    value, variance = estimate(statistic), central_jackknife_variance(statistic)
    n = min(n_subjects(index) for index in statistic.subjects.values())
    n = max(min(n, statistic.independent or n), 2)
    # The variance of a large set has the degrees of freedom of its groups.
    units = min(n_subjects(jackknife_units(index)) for index in statistic.subjects.values())
    t = float(stdtrit(max(min(n, units), 2) - 1, (1 + level) / 2))
    if math.isfinite(high):
        span = high - low
        ends = _share_ends((value - low) / span, variance / span**2, n, t)
        ends = (low + span * ends[0], low + span * ends[1])
    else:
        ends = _mean_ends(value - low, variance, n, t)
        ends = (low + ends[0], low + ends[1])
    return Interval(
        low=ends[0],
        high=ends[1],
        level=level,
        method="score",
        label=f"{level:.0%} CI for the expected value at this n (excludes bias), score interval",
        conditional_on_n=True,
    )


def _share_ends(p: float, variance: float, n: int, t: float) -> tuple[float, float]:
    """Return Wilson's interval of a share p with this variance, among n independent images."""
    # One image more on either side: shares of 0 and 1 have a variance.
    inner = (n * p + 1) / (n + 2)
    within = p if 0 < p < 1 else inner
    effective = within * (1 - within) / max(variance, inner * (1 - inner) / n)
    shrunk = 1 + t**2 / effective
    centre = (p + t**2 / (2 * effective)) / shrunk
    half = t / shrunk * math.sqrt(p * (1 - p) / effective + t**2 / (4 * effective**2))
    # Both ends are exact at the bounds, where rounding would leave them inside.
    return 0.0 if p <= 0 else centre - half, 1.0 if p >= 1 else centre + half


def _mean_ends(mean: float, variance: float, n: int, t: float) -> tuple[float, float]:
    """Return the means m with |mean - m| <= t sqrt(m / effective), where mean / V is effective."""
    effective = mean / variance if mean > 0 and variance > 0 else float(n)
    centre = mean + t**2 / (2 * effective)
    half = t * math.sqrt(mean / effective + t**2 / (4 * effective**2))
    return max(centre - half, 0.0), centre + half


def asinh_interval(statistic: SquaredDistance, *, level: float = 0.95) -> Interval:
    """Return Student's interval of a squared distance on the scale of the inverse hyperbolic sine.

    With the estimate U and s^2 the larger of its variance V and its variance at zero distance,
    asinh(U / s) has about the standard deviation s / sqrt(U^2 + s^2) (delta method). Near zero
    the scale is linear; far from it, it is logarithmic, as the standard deviation of a kernel
    distance with heavy tails grows with the distance itself. The degrees of freedom of V are the
    smaller ones of both sets, 2 N / (kurtosis - 1) of the N subjects' terms and at most N - 1.
    The distance of the populations is not negative: the upper end is at least zero, and the lower
    end is not below zero or the estimate.

    Raises
    ------
    MetricError
        The variance is zero.
    """
    check_level(level)
    value = estimate(statistic)
    variance = float(statistic.variance(ones(statistic))[0])
    scale = math.sqrt(max(variance, statistic.null_variance(), 0.0))
    if not scale > RELATIVE_ZERO * abs(value):
        raise MetricError(
            "asinh interval: the variance must be above zero; found 0 (all images are equal), "
            f"with {count_subjects(statistic)}. Look for duplicated volumes.",
            "no spread",
        )
    t = float(stdtrit(_degrees_of_freedom(statistic), (1 + level) / 2))
    centre, half = math.asinh(value / scale), t * scale / math.hypot(value, scale)
    return Interval(
        low=max(scale * math.sinh(centre - half), min(value, 0.0)),
        high=max(scale * math.sinh(centre + half), 0.0),
        level=level,
        method="asinh",
        label=f"{level:.0%} CI (Student's t on the asinh scale)",
    )


def _degrees_of_freedom(statistic: SquaredDistance) -> float:
    """Return those of the variance: the fewest of the roles, from the kurtosis of their terms."""
    found = []
    for role, terms in statistic.contributions(ones(statistic)).items():
        totals = subject_sums(terms - terms.mean(), statistic.subjects[role])[0]
        n = len(totals)
        squares = (totals - totals.mean()) ** 2
        spread = float(squares.mean())
        kurtosis = float((squares**2).mean()) / spread**2 if spread > 0 else 1.0
        found.append(min(n - 1.0, 2 * n / (kurtosis - 1) if kurtosis > 1 else math.inf))
    return max(min(found), 1.0)


def interval(
    statistic: Statistic,
    method: IntervalMethod,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """Return the interval of the named method.

    "studentized" and "percentile" draw resamples; the others draw nothing and ignore the seed.
    The interval of a `Transformed` statistic holds its own and that of its base, transformed.

    Raises
    ------
    MetricError
        The method is unknown, or needs something that the statistic does not have.
    """
    own = _interval(statistic, method, resamples=resamples, level=level, seed=seed)
    if not isinstance(statistic, Transformed):
        return own
    base = _interval(statistic.base, method, resamples=resamples, level=level, seed=seed)
    low, high = (statistic.from_base(end) for end in (base.low, base.high))
    return replace(own, low=min(own.low, low), high=max(own.high, high))


def _interval(
    statistic: Statistic, method: IntervalMethod, *, resamples: int, level: float, seed: int
) -> Interval:
    """Return the interval of the statistic alone."""
    if method == "jackknife":
        return jackknife_interval(statistic, level=level)
    if method == "percentile":
        return percentile_interval(statistic, resamples=resamples, level=level, seed=seed)
    if method == "studentized":
        if not isinstance(statistic, Studentized):
            raise _lacks(statistic, method, "variance(weights)")
        return studentized_interval(statistic, resamples=resamples, level=level, seed=seed)
    if method == "score":
        if not isinstance(statistic, Bounded):
            raise _lacks(statistic, method, "bounds")
        return score_interval(statistic, level=level)
    if method == "asinh":
        if not isinstance(statistic, SquaredDistance):
            raise _lacks(statistic, method, "null_variance()")
        return asinh_interval(statistic, level=level)
    known = get_args(IntervalMethod)
    raise MetricError(f"--ci {method}: no such interval method; {near_miss(method, known)}")


def _lacks(statistic: Statistic, method: IntervalMethod, what: str) -> MetricError:
    return MetricError(
        f"--ci {method}: {type(statistic).__name__} has no {what}. "
        "Use --ci jackknife or --ci percentile.",
        "no interval",
    )
