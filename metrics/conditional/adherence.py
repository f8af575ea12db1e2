"""Requested against measured: does a conditional generator do what it was requested?

Functions of arrays, one row per image: what was requested of it and what was measured on it. Where
the requested values are a person's true covariates, they say how well the measure itself does,
which is the ceiling of what a generator can show by it.

The conditioning analysis is that of Pinaya et al. 2022, "Brain imaging generation with latent
diffusion models", figure 2: measured against asked ventricular volume (r = 0.97) and predicted
against asked age (r = 0.69).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference.influence import (
    Quantity,
    between_groups,
    coefficient,
    fisher_z,
    from_logit,
    log_mean,
    logit_auc,
    logit_mean,
    mean,
)

FEWEST_IN_GROUP = 5
"""Images of a group, or a point of a curve, below which nothing is told of it."""


def numeric_adherence(
    requested: Float64[np.ndarray, " n"],
    measured: Float64[np.ndarray, " n"],
    *,
    same_unit: bool = True,
) -> list[Quantity]:
    """How a measured number follows the number that was requested for.

    Parameters
    ----------
    asked, measured
        One value per image.
    same_unit
        Whether both are of one unit and meaning; if not, only the correlation says something.

    Returns
    -------
    The correlation (Pearson's; its interval on Fisher's z), then the slope of measured on asked,
    the bias (mean of measured less asked) and the mean absolute error.

    Raises
    ------
    MetricError
        The columns do not fit, or are not finite.

    Examples
    --------
    >>> from synthbench.metrics.inference.influence import estimated
    >>> requested = np.arange(20.0)
    >>> found = numeric_adherence(requested, 2 * requested + 1)
    >>> [round(estimated(q, np.arange(20)).value, 6) for q in found]
    [1.0, 2.0, 10.5, 10.5]
    """
    _check(requested, measured)
    found = [Quantity("correlation", "correlation", fisher_z(requested, measured), math.tanh)]
    if same_unit:
        error = measured - requested
        found += [
            Quantity("slope", "slope", coefficient(requested[:, None], measured, 0)),
            Quantity("bias", "bias", mean(error)),
            Quantity("mae", "MAE", log_mean(np.abs(error)), math.exp),
        ]
    return found


def binary_adherence(
    requested: Bool[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
) -> list[Quantity]:
    """How a measured class follows the one of two classes that was requested for.

    Parameters
    ----------
    asked
        Whether the second class was.
    score
        Grows with the measured probability of the second class.
    correct
        Whether the measured class is the one that was requested for.

    Returns
    -------
    The area under the ROC curve, and the accuracy.

    Raises
    ------
    MetricError
        The columns do not fit, or are not finite.
    """
    _check(requested.astype(np.float64), score)
    return [
        Quantity("auc", "AUC", logit_auc(score, requested), from_logit),
        class_adherence(correct),
    ]


def class_adherence(correct: Bool[np.ndarray, " n"]) -> Quantity:
    """The share of images whose measured class is the one that was requested for."""
    return Quantity("accuracy", "accuracy", logit_mean(correct.astype(np.float64)), from_logit)


def leakage(
    requested: Mapping[str, Float64[np.ndarray, " n"]],
    measured: Float64[np.ndarray, " n"],
) -> dict[str, Quantity]:
    """How far each asked condition moves one measure, the others held where they are.

    Coefficients of one regression of the measure on all that was requested, so covariates that go
    together in the requested values (older, larger ventricles) are told apart. Asking for A leaks
    into the measure of B where A's coefficient is not what it is in real images, whose true
    covariates stand for the asked ones: there a noisy measure of B lets a little of A through too.

    Parameters
    ----------
    asked
        By condition, in units of its standard deviation, or 0 and 1.
    measured
        One value per image, scaled likewise.

    Raises
    ------
    MetricError
        The columns do not fit, or are not finite.
    """
    design = np.column_stack(list(requested.values()))
    for column in requested.values():
        _check(column, measured)
    return {
        name: Quantity("effect", f"effect of {name}", coefficient(design, measured, place))
        for place, name in enumerate(requested)
    }


def parity(
    error: Float64[np.ndarray, " n"], inside: Bool[np.ndarray, " n"], *, signed: bool
) -> list[Quantity]:
    """How much worse, and how otherwise, a group is served than the other images are.

    Parameters
    ----------
    error
        Measured less asked; or whether the class is wrong, as 0 and 1.
    inside
        Which images are of the group.
    signed
        Whether the error has a direction.

    Returns
    -------
    The group's mean absolute error less the others', and where it is `signed` the bias likewise.
    """
    found = [Quantity("mae", "MAE" if signed else "error rate",
                      between_groups(np.abs(error), inside))]  # fmt: skip
    if signed:
        found.append(Quantity("bias", "bias", between_groups(error, inside)))
    return found


def curve(
    requested: Float64[np.ndarray, " n"], measured: Float64[np.ndarray, " n"], points: int = 8
) -> list[tuple[float, float, float, int]]:
    """The measured mean along what was requested, in groups of about equal size.

    Returns
    -------
    For each of at most `points` groups, ordered by the asked value and of at least
    `FEWEST_IN_GROUP` images: the mean requested and measured value, the standard deviation of the
    measured one, and the number of images. Equal requested values are never parted.
    """
    order = np.argsort(requested, kind="stable")
    x, y = requested[order], measured[order]
    groups = max(1, min(points, len(x) // FEWEST_IN_GROUP))
    cuts = np.searchsorted(x, x[np.arange(1, groups) * len(x) // groups], side="left")
    found = []
    for start, end in _joined([0, *np.unique(cuts).tolist(), len(x)]):
        told, seen = x[start:end], y[start:end]
        found.append((float(told.mean()), float(seen.mean()), float(seen.std(ddof=1)), len(told)))
    return found


def _joined(cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Spans between cuts, those that are too small joined to the one before."""
    spans: list[tuple[int, int]] = []
    start = 0
    for end in cuts[1:]:
        if end - start < FEWEST_IN_GROUP:
            continue
        spans.append((start, end))
        start = end
    if not spans:
        return []
    spans[-1] = (spans[-1][0], cuts[-1])
    return spans


def _check(requested: np.ndarray, measured: np.ndarray) -> None:
    if requested.shape != measured.shape or requested.ndim != 1:
        raise MetricError(
            "condition adherence: one asked and one measured value an image are needed; found "
            f"{requested.shape} and {measured.shape}. Leave out images that lack either."
        )
    if not (np.isfinite(requested).all() and np.isfinite(measured).all()):
        raise MetricError(
            "condition adherence: requested and measured values must be finite; found NaN or "
            "infinity. Leave out images without a value."
        )
