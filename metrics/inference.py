"""How sure a number is: intervals, standard errors and floors, written once for every metric.

Everything here works on a `Statistic`, a function of weights over images, and resamples
subjects: images of one subject always carry one weight. The random stream is documented at
`bootstrap_weights`; equal seeds and subjects give equal numbers, whatever the chunk size.

A resample can be degenerate: all its draws may fall on one subject, which leaves no pair of
distinct subjects (the value is NaN), or on so few that its variance is zero (no studentized
value). Such resamples are left out and counted (`Interval.excluded`); more than
`MAX_EXCLUDED` of them is an error, because that many would eat into both tails.

The weighted means that a metric is made of, and its subjects' numbering, are those of
`synthbench.metrics.pairs`, and can be had from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.metric import (
    Direction,
    IntervalMethod,
    Statistic,
    Studentized,
    Summed,
    Weights,
    ones,
)
from synthbench.metrics.pairs import (
    between_mean,
    between_row_means,
    distinct_pairs,
    n_subjects,
    pair_design,
    ratio,
    subject_index,
    subject_sums,
    variance_of_mean,
    within_mean,
    within_row_means,
)

__all__ = [
    "CHUNK_NUMBERS",
    "JACKKNIFE_MAX_IMAGES",
    "MAX_EXCLUDED",
    "POWER",
    "RELATIVE_ZERO",
    "Differentiable",
    "Interval",
    "Linear",
    "LinearStudentized",
    "LinearSubgroup",
    "Spread",
    "StudentizedSubgroup",
    "Subgroup",
    "between_mean",
    "between_row_means",
    "bootstrap_weights",
    "check_level",
    "count_excluded",
    "distinct_pairs",
    "estimate",
    "evaluate",
    "floor",
    "infinitesimal_jackknife_se",
    "interval",
    "jackknife_interval",
    "jackknife_se",
    "leave_one_out_values",
    "leave_one_out_weights",
    "magnitude",
    "matched",
    "n_subjects",
    "pair_design",
    "percentile_interval",
    "permutation_test",
    "ratio",
    "studentized_interval",
    "subgroup",
    "subject_index",
    "subject_sums",
    "variance_of_mean",
    "within_mean",
    "within_row_means",
]

JACKKNIFE_MAX_IMAGES = 200
"""Above this many images in a role, the infinitesimal jackknife replaces delete-one."""

MAX_EXCLUDED = 0.05
"""Largest share of degenerate resamples under which an interval is still given."""

RELATIVE_ZERO = 1e-12
"""A resample's variance below this share of the sample's is zero up to rounding."""

POWER = 0.8
"""The probability with which `Spread.minimum_detectable_effect` would have been found."""

CHUNK_NUMBERS = 2**24
"""Weights are evaluated in chunks whose n x n matrices hold at most this many numbers."""

NUMBERS_AN_IMAGE = 16
"""What `JointlyStudentized.value_and_variance` may hold for an image and a row of weights."""


@runtime_checkable
class Differentiable(Statistic, Protocol):
    """A statistic that gives its own derivative, for the infinitesimal jackknife."""

    def influence(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """For each role, g with d value / d weight_i = (g_i - mean g) / n at all-ones weights.

        The derivative is along directions that keep the sum of the weights.
        """
        ...


@runtime_checkable
class Linear(Statistic, Protocol):
    """A statistic that gives the first-order term of each image, for paired comparisons."""

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        """For each role, c with variance = the sum over roles of `variance_of_mean` of c.

        They add up image by image where two statistics share a role, which variances do not:
        2 g for a mean over pairs within a set, with g its row means.
        """
        ...


@runtime_checkable
class LinearStudentized(Linear, Studentized, Protocol):
    """A statistic that gives the terms of its variance, and the variance."""


@runtime_checkable
class JointlyStudentized(Studentized, Protocol):
    """A statistic whose value and variance share work, as products with one large matrix.

    A call reads that matrix once for all rows, so it is given many: its memory for a row of
    weights grows as n, not as n^2.
    """

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """What `value` and `variance` give, at once."""
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
    conditional_on_n
        Whether it is one for the expected value at this n only, and leaves the metric's bias out.
    excluded
        The number of degenerate resamples that were left out.
    """

    low: float
    high: float
    level: float
    method: IntervalMethod
    label: str
    conditional_on_n: bool = False
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
    minimum_detectable_effect
        Of a floor, the smallest expected excess over its mean that n subjects would have shown
        with 80% probability (see `floor`).
    """

    mean: float
    low: float
    high: float
    n: int
    repeats: int
    minimum_detectable_effect: float | None = None


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
    function: Callable[[Weights], Float64[np.ndarray, " b"]],
    weights: Weights,
    *,
    numbers_a_row: int | None = None,
) -> Float64[np.ndarray, " b"]:
    """Call a statistic's `value` or `variance` on chunks of rows, so that memory is bounded.

    `numbers_a_row` is what the function holds for each row of weights; None is n^2.
    """
    rows = len(next(iter(weights.values())))
    widest = max(w.shape[1] for w in weights.values())
    step = max(1, CHUNK_NUMBERS // (numbers_a_row or widest**2))
    chunks = [
        function({role: w[start : start + step] for role, w in weights.items()})
        for start in range(0, rows, step)
    ]
    return np.concatenate(chunks)


# Some of the images


@dataclass(frozen=True)
class Subgroup:
    """A statistic of some of its images: the others have no weight.

    Attributes
    ----------
    whole
        The statistic of all images.
    chosen
        For each role, which images are in the subgroup.
    subjects
        For each role, the subject index of each image of the subgroup.
    """

    whole: Statistic
    chosen: Mapping[str, Bool[np.ndarray, " n"]]
    subjects: Mapping[str, Int64[np.ndarray, " k"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The metric under each row of weights on the subgroup's images."""
        return self.whole.value(self._on_all_images(weights))

    def _on_all_images(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        spread = {}
        for role, chosen in self.chosen.items():
            spread[role] = np.zeros((len(weights[role]), len(chosen)))
            spread[role][:, chosen] = weights[role]
        return spread


@dataclass(frozen=True)
class StudentizedSubgroup(Subgroup):
    """A subgroup's statistic that estimates its own sampling variance."""

    whole: Studentized

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """Estimated sampling variance of `value` under each row of weights."""
        return self.whole.variance(self._on_all_images(weights))


@dataclass(frozen=True)
class LinearSubgroup(StudentizedSubgroup):
    """A subgroup's statistic that also gives the first-order term of each image."""

    whole: LinearStudentized

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b k"]]:
        """The terms of the subgroup's images."""
        terms = self.whole.contributions(self._on_all_images(weights))
        return {role: values[:, self.chosen[role]] for role, values in terms.items()}


def subgroup(statistic: Statistic, chosen: Mapping[str, Bool[np.ndarray, " n"]]) -> Subgroup:
    """Restrict a statistic to some of its images, without preparing it again.

    Values and intervals are those of the statistic prepared on the subset alone, with the
    settings (a bandwidth, a mask) of the whole. A variance and contributions are handed on. A
    `Differentiable`'s derivative is not: it is taken at equal weights on all images, which a
    subgroup never has, so the jackknife of a subgroup leaves one subject out at any size.

    Parameters
    ----------
    statistic
        Of all images.
    chosen
        For each role, which images are in the subgroup; a role not named keeps all of its own.

    Raises
    ------
    MetricError
        A role is unknown, or its booleans do not fit its images, or choose none of them.

    Examples
    --------
    >>> from synthbench.metrics.mmd import MMD2, mmd2
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> women = np.array([True, True, False, True, False, True])
    >>> part = subgroup(MMD2().prepare(x, x + 1, bandwidth=2.0), {"real": women})
    >>> bool(np.isclose(estimate(part), mmd2(x[women], x + 1, bandwidth=2.0)))
    True
    """
    for role, images in chosen.items():
        if role not in statistic.subjects:
            raise MetricError(
                f"subgroup: no role '{role}' here; {near_miss(role, statistic.subjects)}"
            )
        found, n = np.asarray(images), len(statistic.subjects[role])
        if found.shape != (n,) or found.dtype != np.bool_ or not found.any():
            raise MetricError(
                f"subgroup: chosen['{role}'] must be a boolean for each of the {n} images, at "
                f"least one of them True; found shape {found.shape} of {found.dtype}, "
                f"{np.count_nonzero(found)} nonzero. Compare a column of the participants table."
            )
    every = {
        role: np.ones(len(index), dtype=np.bool_) for role, index in statistic.subjects.items()
    }
    masks = {role: np.asarray(images) for role, images in {**every, **chosen}.items()}
    labels = {role: statistic.subjects[role][mask] for role, mask in masks.items()}
    index = subject_index(labels, **{role: len(images) for role, images in labels.items()})
    if isinstance(statistic, LinearStudentized):
        return LinearSubgroup(statistic, masks, index)
    if isinstance(statistic, Studentized):
        return StudentizedSubgroup(statistic, masks, index)
    return Subgroup(statistic, masks, index)


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


def magnitude(statistic: Statistic) -> float:
    """The size of the terms that the estimate is made of; its own, where it does not say.

    A change of the estimate is small or large beside this number (see `Summed`).
    """
    if isinstance(statistic, Summed):
        return float(statistic.magnitude(ones(statistic))[0])
    return abs(estimate(statistic))


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
    check_level(level)
    value = estimate(statistic)
    variance = float(statistic.variance(ones(statistic))[0])
    if not np.sqrt(max(variance, 0.0)) > RELATIVE_ZERO * abs(value):
        raise MetricError(
            f"studentized interval: the estimated variance is {variance:g}, so there is nothing "
            "to studentize by (images that are all alike, or too few of them); found "
            f"{_count_subjects(statistic)}. Look for duplicated volumes, or use --ci percentile."
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
        numbers_a_row=NUMBERS_AN_IMAGE * widest,
    )
    return both[:, 0], both[:, 1]


def percentile_interval(
    statistic: Statistic, *, resamples: int = 1000, level: float = 0.95, seed: int
) -> Interval:
    """Percentiles of the plain bootstrap of subjects; raises as `studentized_interval` does."""
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
        values = leave_one_out_values(statistic, role)
        square += (len(values) - 1) * float(np.var(values))
    return float(np.sqrt(square))


def leave_one_out_values(statistic: Statistic, role: str) -> Float64[np.ndarray, " s"]:
    """The statistic without each subject of `role` in turn.

    Raises
    ------
    MetricError
        Leaving one subject out makes the statistic undefined.
    """
    values = evaluate(statistic.value, leave_one_out_weights(statistic.subjects, role))
    if not np.isfinite(values).all():
        raise MetricError(
            f"jackknife: the statistic is undefined without one subject of {role}; found "
            f"{_count_subjects(statistic)}. Give every role at least 3 subjects."
        )
    return values


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


def floor(
    statistic: Statistic,
    *,
    n: int | None = None,
    splits: int = 200,
    seed: int,
    direction: Direction = "lower",
) -> Spread:
    """The real-vs-real floor: the statistic between disjoint random halves of one set.

    Its `minimum_detectable_effect` is |c - mean| + z_0.8 sd, with c the edge of the floor on the
    side where a difference shows, and sd its standard deviation over the splits: the expected
    excess that falls beyond c with 80% probability (normal approximation). It supposes that the
    spread stays that of the floor. A real difference usually widens it, so this is a lower bound.

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
    direction
        Which way the metric is better. A difference shows above the 97.5th percentile for
        "lower", below the 2.5th for "higher", beyond the one further from the mean for "zero".

    Raises
    ------
    MetricError
        The two roles do not hold the same subjects, or there are fewer than two sides of `n`.
    """
    index = _one_set(statistic, "floor", "(real, real)")
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
    values = evaluate(statistic.value, {"real": first, "synth": second})
    spread = _spread(values, side)
    effect = _minimum_detectable_effect(spread, float(values.std()), direction)
    return replace(spread, minimum_detectable_effect=effect)


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


# Tests


def permutation_test(
    statistic: Statistic,
    real: Bool[np.ndarray, " n"],
    *,
    permutations: int = 1000,
    seed: int,
    direction: Direction = "lower",
) -> float:
    """Permutation test that both sets come from one distribution, for any metric.

    The labels "real" and "synth" are dealt anew to whole subjects, as many of each as there
    are, and the metric between the two sides is compared: p = (1 + #{permuted at least as far
    as observed}) / (permutations + 1), exact at any n where subjects are exchangeable. For
    "zero", twice the smaller of the two one-sided p, at most 1.

    Settings of the statistic must be those of the pool, or frozen before the labels were known;
    what depends on the labels makes the test inexact.

    Parameters
    ----------
    statistic
        Prepared with the pooled set, real and synthetic images, in both roles.
    real
        Which of the pooled images are the real ones.
    permutations
        Number of random labellings.
    seed
        Seed of the labellings.
    direction
        Which way the metric is better. Large values are far for "lower", small ones for
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
    index = _one_set(statistic, "permutation test", "(pooled, pooled)")
    _check_labels(np.asarray(real), index)
    if permutations < 1:
        raise MetricError(f"permutations must be at least 1; found {permutations}. Use 1000.")
    n_real = len(np.unique(index[real]))
    ranks = _random_ranks(n_subjects(index), permutations, np.random.default_rng(seed))
    labels = np.vstack([real, (ranks < n_real)[:, index]]).astype(np.float64)
    values = evaluate(statistic.value, {"real": labels, "synth": 1 - labels})
    if not np.isfinite(values).all():
        raise MetricError(
            "permutation test: the statistic is undefined on a labelling; found "
            f"{n_real} real of {n_subjects(index)} subjects. Give both sets more subjects."
        )
    # Labellings that tie with the observed one count, whatever their last digit.
    rounding = RELATIVE_ZERO * float(np.abs(values).max())
    above = float((1 + (values[1:] >= values[0] - rounding).sum()) / (permutations + 1))
    below = float((1 + (values[1:] <= values[0] + rounding).sum()) / (permutations + 1))
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


def _one_set(statistic: Statistic, what: str, prepare_with: str) -> Int64[np.ndarray, " n"]:
    """The subject index of the one set that is in both roles."""
    subjects = statistic.subjects
    if set(subjects) != {"real", "synth"} or not np.array_equal(
        subjects["real"], subjects["synth"]
    ):
        raise MetricError(
            f"{what}: the statistic must hold one set in both roles, 'real' and 'synth'; found "
            f"{_count_subjects(statistic)}. Prepare it with {prepare_with}."
        )
    return subjects["real"]


def _random_ranks(n: int, repeats: int, rng: np.random.Generator) -> Int64[np.ndarray, "r n"]:
    return rng.permuted(np.tile(np.arange(n), (repeats, 1)), axis=1)


def _spread(values: Float64[np.ndarray, " r"], n: int) -> Spread:
    if not np.isfinite(values).all():
        raise MetricError(f"the statistic is undefined at {n} subjects a role. Use a larger n.")
    low, high = np.quantile(values, [0.025, 0.975])
    return Spread(float(values.mean()), float(low), float(high), n=n, repeats=len(values))


def _minimum_detectable_effect(spread: Spread, sd: float, direction: Direction) -> float:
    below, above = spread.mean - spread.low, spread.high - spread.mean
    edge = {"lower": above, "higher": below, "zero": max(below, above)}[direction]
    return edge + NormalDist().inv_cdf(POWER) * sd


def count_excluded(usable: Bool[np.ndarray, " b"], statistic: Statistic) -> int:
    """Count the degenerate resamples.

    Raises
    ------
    MetricError
        They are more than `MAX_EXCLUDED` of all.
    """
    excluded = int((~usable).sum())
    if excluded > MAX_EXCLUDED * len(usable):
        raise MetricError(
            f"bootstrap: {excluded} of {len(usable)} resamples hold too few distinct subjects "
            f"(at most {MAX_EXCLUDED:.0%} may); found {_count_subjects(statistic)}. "
            "Score more subjects, or use --ci jackknife."
        )
    return excluded


def check_level(level: float) -> None:
    """Raise a MetricError unless `level` is a share."""
    if not 0 < level < 1:
        raise MetricError(f"level must lie between 0 and 1; found {level}. Use 0.95 for 95%.")


def _count_subjects(statistic: Statistic) -> str:
    return ", ".join(f"{n_subjects(index)} {role}" for role, index in statistic.subjects.items())
