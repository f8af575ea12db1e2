"""How sure a number is: intervals, standard errors and floors, written once for every metric.

Everything here works on a `Statistic`, a function of weights over images, and resamples
subjects: images of one subject always carry one weight. The random stream is documented at
`bootstrap_weights`; equal seeds and subjects give equal numbers, whatever the chunk size.

A resample can be degenerate: all its draws may fall on one subject, which leaves no pair of
distinct subjects (the value is NaN), or on so few that its variance is zero (no studentized
value). Such resamples are left out and counted (`Interval.excluded`); more than
`MAX_EXCLUDED` of them is an error, because that many would eat into both tails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.metric import IntervalMethod, Statistic, Studentized, Weights, ones

JACKKNIFE_MAX_IMAGES = 200
"""Above this many images in a role, the infinitesimal jackknife replaces delete-one."""

MAX_EXCLUDED = 0.05
"""Largest share of degenerate resamples under which an interval is still given."""

RELATIVE_ZERO = 1e-12
"""A resample's variance below this share of the sample's is zero up to rounding."""

CHUNK_NUMBERS = 2**24
"""Weights are evaluated in chunks whose n x n matrices hold at most this many numbers."""


@runtime_checkable
class Differentiable(Statistic, Protocol):
    """A statistic that gives its own derivative, for the infinitesimal jackknife."""

    def influence(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """For each role, g with d value / d weight_i = (g_i - mean g) / n at all-ones weights.

        The derivative is along directions that keep the sum of the weights.
        """
        ...


@dataclass(frozen=True)
class Interval:
    """A confidence interval, and the words that say what it covers.

    Attributes
    ----------
    low, high
        The ends, in the metric's unit.
    level
        The nominal coverage, in (0, 1).
    method
        How it was made.
    label
        What it is an interval for, as a table prints it.
    excluded
        The number of degenerate resamples that were left out.
    """

    low: float
    high: float
    level: float
    method: IntervalMethod
    label: str
    excluded: int = 0


@dataclass(frozen=True)
class Spread:
    """A statistic over repeated subsamples of equal size.

    Attributes
    ----------
    mean, low, high
        Its mean, 2.5th and 97.5th percentile over the subsamples.
    n
        Subjects of each role in a subsample.
    repeats
        The number of subsamples.
    """

    mean: float
    low: float
    high: float
    n: int
    repeats: int


# Subjects


def subject_index(
    labels: Mapping[str, np.ndarray] | None, **sizes: int
) -> dict[str, Int64[np.ndarray, " n"]]:
    """Number the subjects of each role 0, 1, ... in order of first appearance.

    Parameters
    ----------
    labels
        For each role, the subject of each image (integers or strings). A role that is not
        named has one image a subject; so have all where `labels` is None.
    sizes
        The number of images of each role.

    Raises
    ------
    MetricError
        A role in `labels` is unknown, or has another number of labels than images.

    Examples
    --------
    >>> subject_index({"real": np.array(["b", "a", "b"])}, real=3, synth=2)
    {'real': array([0, 1, 0]), 'synth': array([0, 1])}
    """
    given = labels or {}
    for role in given:
        if role not in sizes:
            raise MetricError(f"subjects: no role '{role}' here; {near_miss(role, sizes)}")
    index = {role: np.arange(n, dtype=np.int64) for role, n in sizes.items()}
    for role, subjects in given.items():
        names = np.asarray(subjects)
        if names.shape != (sizes[role],):
            raise MetricError(
                f"subjects['{role}'] must hold one label for each of the {sizes[role]} images; "
                f"found an array of shape {names.shape}. Take it from the participants table."
            )
        _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        index[role] = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    return index


def n_subjects(index: Int64[np.ndarray, " n"]) -> int:
    """The number of subjects in an index that counts from 0."""
    return int(index.max()) + 1


def subject_sums(
    values: Float64[np.ndarray, "b n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "b s"]:
    """Sum the images' values within each subject."""
    if np.array_equal(index, np.arange(len(index))):
        return values
    membership: Float64[np.ndarray, "n s"] = np.eye(n_subjects(index))[index]
    sums: Float64[np.ndarray, "b s"] = values @ membership
    return sums


# Means over images and over pairs of images, and the variance of such means


def ratio(
    numerator: Float64[np.ndarray, "*shape"], denominator: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Divide, and give NaN (undefined) where the denominator is not positive."""
    top, bottom = np.broadcast_arrays(numerator, denominator)
    quotient: Float64[np.ndarray, "*shape"] = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient


def distinct_pairs(
    pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n n"]:
    """A copy of a symmetric pair matrix with the pairs within a subject set to zero."""
    return np.where(index[:, None] == index[None, :], 0.0, pairs)


def within_mean(
    pairs: Float64[np.ndarray, "n n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, " b"]:
    """Weighted mean over pairs of distinct subjects, an order-2 U-statistic.

    w' K0 w / (n^2 - sum over subjects of W_s^2), with n the sum of w and W_s its sum within a
    subject: counts as weights give the mean over the repeated rows without pairs of copies.

    Parameters
    ----------
    pairs
        K0, from `distinct_pairs`.
    w
        Non-negative weights.
    index
        The subject of each image.

    Returns
    -------
    The mean under each row of weights, NaN where fewer than two subjects have weight.
    """
    pair_weight = w.sum(axis=1) ** 2 - (subject_sums(w, index) ** 2).sum(axis=1)
    return ratio(((w @ pairs) * w).sum(axis=1), pair_weight)


def within_row_means(
    pairs: Float64[np.ndarray, "n n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, "b n"]:
    """Each image's weighted mean over the images of other subjects, (K0 w)_i / (n - W_s(i))."""
    others = w.sum(axis=1, keepdims=True) - subject_sums(w, index)[:, index]
    return ratio(w @ pairs, others)


def between_mean(
    pairs: Float64[np.ndarray, "n m"],
    w: Float64[np.ndarray, "b n"],
    v: Float64[np.ndarray, "b m"],
) -> Float64[np.ndarray, " b"]:
    """Weighted mean over pairs across two sets, w' K v / (n m)."""
    return ratio(((w @ pairs) * v).sum(axis=1), w.sum(axis=1) * v.sum(axis=1))


def between_row_means(
    pairs: Float64[np.ndarray, "n m"], v: Float64[np.ndarray, "b m"]
) -> Float64[np.ndarray, "b n"]:
    """Each row's weighted mean over the columns, (K v)_i / m."""
    return ratio(v @ pairs.T, v.sum(axis=1, keepdims=True))


def variance_of_mean(
    values: Float64[np.ndarray, "b n"],
    w: Float64[np.ndarray, "b n"],
    index: Int64[np.ndarray, " n"],
) -> Float64[np.ndarray, " b"]:
    """Estimated variance of a weighted mean of images' values, by subjects.

    With z_s = sum_i in s of w_i (g_i - mean g), c_s the weight of an image of subject s and
    N the sum of c_s: V = N/(N - 1) sum_s z_s^2 / c_s / n^2. With one image a subject this is
    the sample variance (divisor n - 1) over n.

    Returns
    -------
    V under each row of weights, NaN where the counts of subjects sum to one or less.
    """
    n = w.sum(axis=1, keepdims=True)
    weighted = w > 0
    # A value that no weight reaches may be undefined, and must not reach the sum as 0 * NaN.
    g = np.where(weighted, values, 0.0)
    deviations = w * (g - ratio((w * g).sum(axis=1, keepdims=True), n))
    totals = subject_sums(deviations, index)
    sums = subject_sums(w, index)
    # Equals the weight itself where a subject's images share one, as in every resample.
    multiplicity = np.divide(
        subject_sums(w**2, index), sums, out=np.zeros_like(sums), where=sums > 0
    )
    squares = np.divide(totals**2, multiplicity, out=np.zeros_like(sums), where=sums > 0)
    count = multiplicity.sum(axis=1)
    return ratio(count * squares.sum(axis=1), (count - 1) * n[:, 0] ** 2)


# Weights


def bootstrap_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], b: int, rng: np.random.Generator
) -> dict[str, Float64[np.ndarray, "b n"]]:
    """Draw `b` bootstrap resamples of subjects, as counts on the images.

    The stream: one 63-bit key is drawn from `rng`; a role's counts come from
    ``default_rng([key, *role.encode()])``, row after row. So they depend on the seed, the
    role's name and its number of subjects only: two synthetic sets scored with one seed share
    their real resamples, and the first 100 of 1000 resamples are those of 100.

    Parameters
    ----------
    subjects
        For each role, the subject index of each image.
    b
        Number of resamples.
    rng
        Source of the key.

    Returns
    -------
    For each role, multinomial counts of its subjects, repeated for their images.
    """
    key = int(rng.integers(2**63))
    weights = {}
    for role, index in subjects.items():
        stream = np.random.default_rng([key, *role.encode()])
        n = n_subjects(index)
        counts = stream.multinomial(n, np.full(n, 1 / n), size=b).astype(np.float64)
        weights[role] = counts[:, index]
    return weights


def leave_one_out_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], role: str
) -> dict[str, Float64[np.ndarray, "s n"]]:
    """Indicator weights that leave out each subject of `role` in turn."""
    rows = n_subjects(subjects[role])
    weights = {other: np.ones((rows, len(index))) for other, index in subjects.items()}
    weights[role] = (subjects[role][None, :] != np.arange(rows)[:, None]).astype(np.float64)
    return weights


def evaluate(
    function: Callable[[Weights], Float64[np.ndarray, " b"]], weights: Weights
) -> Float64[np.ndarray, " b"]:
    """Call a statistic's `value` or `variance` on chunks of rows, so that memory is bounded."""
    rows = len(next(iter(weights.values())))
    widest = max(w.shape[1] for w in weights.values())
    step = max(1, CHUNK_NUMBERS // widest**2)
    chunks = [
        function({role: w[start : start + step] for role, w in weights.items()})
        for start in range(0, rows, step)
    ]
    return np.concatenate(chunks)


# The estimate and its intervals


def estimate(statistic: Statistic) -> float:
    """The statistic with every image counted once.

    Raises
    ------
    MetricError
        It is undefined, as with fewer than two subjects in a role.
    """
    value = float(statistic.value(ones(statistic))[0])
    if not np.isfinite(value):
        raise MetricError(
            "the statistic is undefined on these images (its value is not finite); found "
            f"{_count_subjects(statistic)}. Give every role at least 2 subjects."
        )
    return value


def studentized_interval(
    statistic: Studentized, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """Studentized (bootstrap-t) interval.

    With t* = (U* - U)/sqrt(V*), the interval is [U - q_hi sqrt(V), U - q_lo sqrt(V)]
    (Efron and Tibshirani 1993, section 12.5).

    Parameters
    ----------
    statistic
        A statistic with a variance of its own.
    resamples, level, seed
        Number of resamples, nominal coverage, and the seed of their stream.

    Raises
    ------
    MetricError
        The variance is zero, or more than `MAX_EXCLUDED` of the resamples are degenerate.
    """
    _check_level(level)
    value = estimate(statistic)
    variance = float(statistic.variance(ones(statistic))[0])
    if not np.sqrt(max(variance, 0.0)) > RELATIVE_ZERO * abs(value):
        raise MetricError(
            f"studentized interval: the estimated variance is {variance:g}, so there is nothing "
            "to studentize by (images that are all alike, or too few of them); found "
            f"{_count_subjects(statistic)}. Look for duplicated volumes, or use --ci percentile."
        )
    weights = bootstrap_weights(statistic.subjects, resamples, np.random.default_rng(seed))
    values = evaluate(statistic.value, weights)
    variances = evaluate(statistic.variance, weights)
    usable = np.isfinite(values) & (variances > RELATIVE_ZERO * variance)
    excluded = _excluded(usable, statistic)
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


def percentile_interval(
    statistic: Statistic, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """Percentiles of the plain bootstrap of subjects; raises as `studentized_interval` does."""
    _check_level(level)
    weights = bootstrap_weights(statistic.subjects, resamples, np.random.default_rng(seed))
    values = evaluate(statistic.value, weights)
    usable = np.isfinite(values)
    excluded = _excluded(usable, statistic)
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
    """Delete-one-subject standard error, its square summed over roles.

    SE^2 = sum over roles of (N - 1)/N sum_s (U_-s - mean U_-.)^2, with N the role's subjects
    (Efron and Tibshirani 1993, equation 11.5).

    Raises
    ------
    MetricError
        Leaving one subject out makes the statistic undefined.
    """
    square = 0.0
    for role in statistic.subjects:
        values = evaluate(statistic.value, leave_one_out_weights(statistic.subjects, role))
        if not np.isfinite(values).all():
            raise MetricError(
                f"jackknife: the statistic is undefined without one subject of {role}; found "
                f"{_count_subjects(statistic)}. Give every role at least 3 subjects."
            )
        square += (len(values) - 1) * float(np.var(values))
    return float(np.sqrt(square))


def infinitesimal_jackknife_se(statistic: Differentiable) -> float:
    """Standard error from the statistic's derivative: SE^2 = sum over roles of var g / n.

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
            f"jackknife: found {_count_subjects(statistic)}. Give every role at least 2 subjects."
        )
    return float(np.sqrt(square))


def jackknife_interval(statistic: Statistic, *, level: float = 0.95) -> Interval:
    """The estimate plus and minus normal quantiles of its jackknife standard error.

    Beyond `JACKKNIFE_MAX_IMAGES` images in a role, a `Differentiable` statistic uses the
    infinitesimal jackknife. The interval is for the statistic's expectation at this n: where
    the statistic is biased, as the Frechet distance is, it does not cover the population's.
    """
    _check_level(level)
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
    )


def interval(
    statistic: Statistic,
    method: IntervalMethod,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """The interval of the named method; the jackknife draws nothing and ignores the seed.

    Raises
    ------
    MetricError
        The method is unknown, or needs a variance that the statistic does not give.
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


# Values at a smaller n


def floor(statistic: Statistic, *, n: int | None = None, splits: int = 200, seed: int) -> Spread:
    """The real-vs-real floor: the statistic between disjoint random halves of one set.

    Parameters
    ----------
    statistic
        Prepared with the real set in both roles, "real" and "synth".
    n
        Subjects a side; None is half of them, rounded down.
    splits
        Number of random splits.
    seed
        Seed of the splits.

    Raises
    ------
    MetricError
        The two roles do not hold the same subjects, or there are fewer than two sides of `n`.
    """
    subjects = statistic.subjects
    if set(subjects) != {"real", "synth"} or not np.array_equal(
        subjects["real"], subjects["synth"]
    ):
        raise MetricError(
            "floor: the statistic must hold one set in both roles, 'real' and 'synth'; found "
            f"{_count_subjects(statistic)}. Prepare it with (real, real)."
        )
    index = subjects["real"]
    available = n_subjects(index)
    side = available // 2 if n is None else n
    if not 2 <= side <= available // 2:
        raise MetricError(
            f"floor: two disjoint sides of at least 2 subjects are needed; found {available} "
            f"subjects for two sides of {side}. Use n between 2 and {available // 2}, "
            "or more real volumes."
        )
    ranks = _random_ranks(available, splits, np.random.default_rng(seed))[:, index]
    first = (ranks < side).astype(np.float64)
    second = ((ranks >= side) & (ranks < 2 * side)).astype(np.float64)
    return _spread(evaluate(statistic.value, {"real": first, "synth": second}), side)


def matched(statistic: Statistic, n: int, *, repeats: int = 200, seed: int) -> Spread:
    """The statistic at `n` subjects a role, over random subsamples without replacement.

    Stands beside `floor` at the same n: a value at another n is not comparable with it.

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
        weights[role] = (_random_ranks(available, repeats, rng)[:, index] < n).astype(np.float64)
    return _spread(evaluate(statistic.value, weights), n)


def _random_ranks(n: int, repeats: int, rng: np.random.Generator) -> Int64[np.ndarray, "r n"]:
    return rng.permuted(np.tile(np.arange(n), (repeats, 1)), axis=1)


def _spread(values: Float64[np.ndarray, " r"], n: int) -> Spread:
    if not np.isfinite(values).all():
        raise MetricError(f"the statistic is undefined at {n} subjects a role. Use a larger n.")
    low, high = np.quantile(values, [0.025, 0.975])
    return Spread(float(values.mean()), float(low), float(high), n=n, repeats=len(values))


def _excluded(usable: np.ndarray, statistic: Statistic) -> int:
    excluded = int((~usable).sum())
    if excluded > MAX_EXCLUDED * len(usable):
        raise MetricError(
            f"bootstrap: {excluded} of {len(usable)} resamples hold too few distinct subjects "
            f"(at most {MAX_EXCLUDED:.0%} may); found {_count_subjects(statistic)}. "
            "Score more subjects, or use --ci jackknife."
        )
    return excluded


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise MetricError(f"level must lie between 0 and 1; found {level}. Use 0.95 for 95%.")


def _count_subjects(statistic: Statistic) -> str:
    return ", ".join(f"{n_subjects(index)} {role}" for role, index in statistic.subjects.items())
