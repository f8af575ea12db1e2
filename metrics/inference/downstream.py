"""Uncertainty of downstream results: predictions of models trained on different arms.

A measure of predictions (AUC, a mean absolute error) has two sources of chance: the choice of
test subjects, and the training. A measure has a value and a first-order term of every test
subject, in strata; its variance over test subjects is the sum over strata of var(terms) / n. The
comparison of two models on the same subjects is paired: their terms are subtracted before the
variance is computed. For the AUC the terms are placement values, and this is DeLong's variance.
For a mean it is the variance of the paired bootstrap, without resampling.

The variance of training is added, in one of two ways:

- S trainings per arm that differ in their random draws (weights, batches): the value is the mean
  over them, and s_A^2 / S + s_B^2 / S is added. The training volumes are taken as fixed.
- A model without random draws, refitted R times on random halves of its training subjects: the
  value is that of the model itself, and the half-sample variance of the difference is added (the
  delete-d jackknife with d = n / 2, Shao and Wu 1989, Ann. Stat. 17:1176-1197). It is not divided
  by R: it estimates the effect of another choice of training subjects. Its part due to the finite
  test set is subtracted, since the variance over test subjects already contains that part.
  Subjects that both arms share are left out of both at once.

The interval uses a t distribution with Satterthwaite's degrees of freedom (1946, Biometrics
Bulletin 2:110-114).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy import stats

from synthbench.errors import MetricError
from synthbench.metrics.inference.placements import placements

DELETED = 0.5
"""Share of the training subjects that a refit leaves out."""


@dataclass(frozen=True)
class Terms:
    """A measure of s models on the same test subjects.

    Attributes
    ----------
    values
        One value per model.
    strata
        First-order terms, one row per model and one column per subject. The strata are independent
        samples of subjects, as the positive and the negative ones are for the AUC. A constant
        added to the terms changes nothing.
    """

    values: Float64[np.ndarray, " s"]
    strata: tuple[Float64[np.ndarray, "s _"], ...]


@dataclass(frozen=True)
class Measure:
    """A measure of predictions.

    Attributes
    ----------
    name, label
        The key in a record, and the label in a table.
    better
        The better side.
    bounds
        Its lowest and its highest possible value.
    terms
        A function of the predictions (one row per model, one column per subject) and the truth.
    """

    name: str
    label: str
    better: Literal["higher", "lower"]
    bounds: tuple[float, float]
    terms: Callable[[Float64[np.ndarray, "s n"], Float64[np.ndarray, " n"]], Terms]


@dataclass(frozen=True)
class Predictions:
    """The predictions of the models of one arm for the test subjects.

    Attributes
    ----------
    seeds
        Log-odds of a class, or a number; one row per training.
    refitted
        The same of refits without some training subjects, one row per refit, for a model without
        random draws. Row r of every arm leaves out the same of the subjects that the arms share.
    """

    seeds: Float64[np.ndarray, "s n"]
    refitted: Float64[np.ndarray, "r n"] | None = None


@dataclass(frozen=True)
class Component:
    """A part of a variance, and the degrees of freedom of its estimate."""

    source: str
    variance: float
    df: float


@dataclass(frozen=True)
class Estimate:
    """A value with its interval and the two-sided test that it is zero.

    Attributes
    ----------
    value, se, df
        The estimate, its standard error and the degrees of freedom of its t distribution
        (infinite where nothing varies).
    low, high, level
        The interval and its nominal coverage.
    p
        The two-sided p-value of zero; 1 where value and standard error are both zero.
    components
        The parts of the squared standard error.
    """

    value: float
    se: float
    df: float
    low: float
    high: float
    level: float
    p: float
    components: tuple[Component, ...]


# ---------------------------------------------------------------- measures


def _auc_terms(log_odds: Float64[np.ndarray, "s n"], positive: Float64[np.ndarray, " n"]) -> Terms:
    placed = placements(log_odds, positive > 0.5)
    return Terms(placed.positives.mean(axis=1), (placed.positives, placed.negatives))


def _balanced_accuracy_terms(
    log_odds: Float64[np.ndarray, "s n"], positive: Float64[np.ndarray, " n"]
) -> Terms:
    right = ((log_odds > 0) == (positive > 0.5)).astype(np.float64)
    classes = (right[:, positive > 0.5], right[:, positive <= 0.5])
    return Terms(
        (classes[0].mean(axis=1) + classes[1].mean(axis=1)) / 2,
        (classes[0] / 2, classes[1] / 2),
    )


def _mae_terms(predicted: Float64[np.ndarray, "s n"], truth: Float64[np.ndarray, " n"]) -> Terms:
    errors = np.abs(predicted - truth)
    return Terms(errors.mean(axis=1), (errors,))


def _r2_terms(predicted: Float64[np.ndarray, "s n"], truth: Float64[np.ndarray, " n"]) -> Terms:
    """1 - A / B with A the mean squared error and B the variance of the truth.

    Its first-order term (infinitesimal jackknife, Jaeckel 1972) is -a_i / B + A b_i / B^2, for
    a_i the squared error and b_i the squared deviation of a subject.
    """
    squared_errors = (predicted - truth) ** 2
    deviations = (truth - truth.mean()) ** 2
    a, b = squared_errors.mean(axis=1, keepdims=True), deviations.mean()
    if b == 0:
        raise MetricError(
            "r2: the label must differ between test subjects. Test on others.", "one value"
        )
    return Terms(1 - a[:, 0] / b, (-squared_errors / b + a * deviations / b**2,))


def _mean_terms(values: Float64[np.ndarray, "s n"], truth: Float64[np.ndarray, " n"]) -> Terms:
    return Terms(values.mean(axis=1), (values,))


AUC = Measure("auc", "AUC", "higher", (0.0, 1.0), _auc_terms)
BALANCED_ACCURACY = Measure(
    "balanced_accuracy", "balanced accuracy", "higher", (0.0, 1.0), _balanced_accuracy_terms
)
MAE = Measure("mae", "MAE", "lower", (0.0, math.inf), _mae_terms)
R2 = Measure("r2", "R²", "higher", (-math.inf, 1.0), _r2_terms)
DICE = Measure("dice", "Dice", "higher", (0.0, 1.0), _mean_terms)
"""A measure of Dice scores, one per subject, in place of predictions; the truth is not used."""


# ---------------------------------------------------------------- values and differences


def value(
    measure: Measure,
    arm: Predictions,
    truth: Float64[np.ndarray, " n"],
    level: float = 0.95,
) -> Estimate:
    """Return the value of one arm, with an interval over test subjects and trainings.

    Raises
    ------
    MetricError
        There are fewer than two subjects, or the measure refuses them.
    """
    terms = measure.terms(arm.seeds, truth)
    components = _of_subjects(terms.strata)
    if arm.refitted is None:
        components += _of_seeds("training seeds", terms.values)
    else:
        components.append(_of_refits(measure.terms(arm.refitted, truth)))
    return _estimate(float(terms.values.mean()), components, level, measure.bounds)


def difference(
    measure: Measure,
    arm: Predictions,
    against: Predictions,
    truth: Float64[np.ndarray, " n"],
    level: float = 0.95,
) -> Estimate:
    """Return the difference of two arms on the same test subjects, with its interval.

    Parameters
    ----------
    measure
        The measure of both arms.
    arm, against
        The estimate is the value of `arm` minus that of `against`.
    truth
        One number per test subject; 1 for the positive class, 0 for the negative.
    level
        Nominal coverage of the interval.

    Raises
    ------
    MetricError
        There are fewer than two subjects, or the arms were refitted differently.
    """
    first, second = measure.terms(arm.seeds, truth), measure.terms(against.seeds, truth)
    components = _of_subjects(_less(_averaged(first), _averaged(second)).strata)
    if arm.refitted is None or against.refitted is None:
        components += _of_seeds("training seeds", first.values)
        components += _of_seeds("training seeds of the other arm", second.values)
    else:
        if len(arm.refitted) != len(against.refitted):
            raise MetricError(
                "both arms need refits without the same training subjects; found "
                f"{len(arm.refitted)} and {len(against.refitted)}."
            )
        refits, others = arm.refitted, against.refitted
        components.append(
            _of_refits(_less(measure.terms(refits, truth), measure.terms(others, truth)))
        )
    return _estimate(float(first.values.mean() - second.values.mean()), components, level)


def repeated_splits(
    differences: Float64[np.ndarray, " j"], n_train: int, n_test: int, level: float = 0.95
) -> Estimate:
    """Return the mean difference over random splits of a cohort, with Nadeau and Bengio's variance.

    The splits share subjects, so their differences are not independent: the variance of the mean
    is s^2 (1 / J + n_test / n_train), with J - 1 degrees of freedom (Nadeau and Bengio 2003,
    Machine Learning 52:239-281, the corrected resampled t-test).

    Raises
    ------
    MetricError
        There are fewer than two splits.
    """
    j = len(differences)
    if j < 2:
        raise MetricError(f"--splits: at least 2 splits are needed; found {j}.")
    inflation = 1 / j + n_test / n_train
    variance = float(np.var(differences, ddof=1)) * inflation
    component = Component("repeated splits", variance, j - 1)
    return _estimate(float(np.mean(differences)), [component], level)


def satterthwaite(components: Sequence[Component]) -> float:
    """Return the degrees of freedom of a sum of variances; infinite where all are zero."""
    total = sum(component.variance for component in components)
    if total == 0:
        return math.inf
    return total**2 / sum(c.variance**2 / c.df for c in components if c.variance > 0)


# ---------------------------------------------------------------- components


def _averaged(terms: Terms) -> Terms:
    strata = tuple(rows.mean(axis=0, keepdims=True) for rows in terms.strata)
    return Terms(terms.values.mean(keepdims=True), strata)


def _less(terms: Terms, others: Terms) -> Terms:
    """The terms of a difference of two models on the same subjects."""
    strata = tuple(a - b for a, b in zip(terms.strata, others.strata, strict=True))
    return Terms(terms.values - others.values, strata)


def _of_subjects(strata: Sequence[Float64[np.ndarray, "s _"]]) -> list[Component]:
    """The variances over test subjects, one per stratum, of terms averaged over trainings."""
    components = []
    for terms in strata:
        n = terms.shape[1]
        if n < 2:
            raise MetricError(
                f"at least 2 test subjects are needed in each class; found {n}.",
                "small category",
                needed=2,
                found=n,
            )
        spread = float(np.var(terms.mean(axis=0), ddof=1)) / n
        components.append(Component("test subjects", spread, n - 1))
    return components


def _of_seeds(source: str, values: Float64[np.ndarray, " s"]) -> list[Component]:
    """The variance s^2 / S of a mean over S trainings; none for a single training."""
    s = len(values)
    if s < 2:
        return []
    return [Component(source, float(np.var(values, ddof=1)) / s, s - 1)]


def _of_refits(terms: Terms) -> Component:
    """The variance over refits minus the part due to test subjects, as in a two-way layout.

    With v_r the values of the R refits and h_ri their first-order terms, it is
    var(v) - sum over strata of the mean over r of var_i(h_ri - mean_r h_ri) / n R / (R - 1).
    """
    r = len(terms.values)
    if r < 2:
        raise MetricError(f"at least 2 refits on part of the subjects are needed; found {r}.")
    spread = float(np.var(terms.values, ddof=1))
    of_test = 0.0
    for rows in terms.strata:
        deviations = rows - rows.mean(axis=0)
        of_test += float(np.var(deviations, axis=1, ddof=1).sum()) / (r - 1) / rows.shape[1]
    variance = max(0.0, spread - of_test)
    # The variance of the estimate is about that of `spread`, 2 spread^2 / (r - 1).
    df = (r - 1) * (variance / spread) ** 2 if spread > 0 else r - 1
    return Component("training subjects", variance, max(1.0, df))


def _estimate(
    value: float,
    components: Sequence[Component],
    level: float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    se = math.sqrt(sum(component.variance for component in components))
    df = satterthwaite(components)
    if se == 0:
        return Estimate(
            value, 0.0, df, value, value, level, 1.0 if value == 0 else 0.0, tuple(components)
        )
    reach = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Estimate(
        value=value, se=se, df=df,
        low=max(bounds[0], value - reach), high=min(bounds[1], value + reach), level=level,
        p=float(2 * stats.t.sf(abs(value) / se, df)), components=tuple(components),
    )  # fmt: skip
