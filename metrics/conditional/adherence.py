"""Adherence to conditions: measured values of synthetic images against the requested values.

All functions take arrays with one requested and one measured value per image. For real images the
true covariates take the place of the requested values. The results then show how good the measure
itself is, which is the best result that a generator can reach.

The analysis follows Pinaya et al. 2022, "Brain imaging generation with latent diffusion models",
figure 2: measured against requested ventricular volume (r = 0.97) and predicted against requested
age (r = 0.69).
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
"""Smallest number of images in a group, or in a point of a curve."""


def numeric_adherence(
    requested: Float64[np.ndarray, " n"],
    measured: Float64[np.ndarray, " n"],
    *,
    same_unit: bool = True,
) -> list[Quantity]:
    """Return how well a measured number follows the requested number.

    Parameters
    ----------
    requested, measured
        One value per image.
    same_unit
        True where both have the same unit and meaning; otherwise only the correlation is returned.

    Returns
    -------
    Pearson's correlation (its interval on Fisher's z), then the slope of measured on requested,
    the bias (mean of measured minus requested) and the mean absolute error.

    Raises
    ------
    MetricError
        The columns do not fit, or are not finite.

    Examples
    --------
    >>> from synthbench.metrics.inference.influence import estimated
    >>> requested = np.arange(20.0)
    >>> quantities = numeric_adherence(requested, 2 * requested + 1)
    >>> [round(estimated(q, np.arange(20)).value, 6) for q in quantities]
    [1.0, 2.0, 10.5, 10.5]
    """
    _check(requested, measured)
    quantities = [Quantity("correlation", "correlation", fisher_z(requested, measured), math.tanh)]
    if same_unit:
        error = measured - requested
        quantities += [
            Quantity("slope", "slope", coefficient(requested[:, None], measured, 0)),
            Quantity("bias", "bias", mean(error)),
            Quantity("mae", "MAE", log_mean(np.abs(error)), math.exp),
        ]
    return quantities


def binary_adherence(
    requested: Bool[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
) -> list[Quantity]:
    """Return how well a measured class follows the requested one of two classes.

    Parameters
    ----------
    requested
        True for images of which the second class was requested.
    score
        A number that grows with the measured probability of the second class.
    correct
        True where the measured class is the requested one.

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
    """Return the share of images whose measured class is the requested one."""
    return Quantity("accuracy", "accuracy", logit_mean(correct.astype(np.float64)), from_logit)


def leakage(
    requested: Mapping[str, Float64[np.ndarray, " n"]],
    measured: Float64[np.ndarray, " n"],
) -> dict[str, Quantity]:
    """Return the effect of each requested condition on one measure, at equal other conditions.

    The effects are the coefficients of one regression of the measure on all requested conditions.
    So they separate covariates that are correlated in the requested values (age and ventricular
    volume). Requested values of A leak into the measure of B where the coefficient of A differs
    from that in real images, with their true covariates as requested values. In real images it may
    differ from zero too, where the measure of B is noisy.

    Parameters
    ----------
    requested
        The values by condition, in units of the standard deviation, or 0 and 1.
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
    """Return the differences in error between a group and the other images.

    Parameters
    ----------
    error
        Measured minus requested; or 1 for a wrong class and 0 for a right one.
    inside
        True for the images of the group.
    signed
        True where the error has a direction.

    Returns
    -------
    The group's mean absolute error minus that of the others; where `signed`, the same of the bias.
    """
    label = "MAE" if signed else "error rate"
    quantities = [Quantity("mae", label, between_groups(np.abs(error), inside))]
    if signed:
        quantities.append(Quantity("bias", "bias", between_groups(error, inside)))
    return quantities


def curve(
    requested: Float64[np.ndarray, " n"], measured: Float64[np.ndarray, " n"], points: int = 8
) -> list[tuple[float, float, float, int]]:
    """Return the mean measured value along the requested one, in groups of about equal size.

    Returns
    -------
    For each of at most `points` groups, ordered by the requested value and of at least
    `FEWEST_IN_GROUP` images: the mean requested and measured value, the standard deviation of the
    measured one, and the number of images. Equal requested values are always in one group.
    """
    order = np.argsort(requested, kind="stable")
    x, y = requested[order], measured[order]
    groups = max(1, min(points, len(x) // FEWEST_IN_GROUP))
    cuts = np.searchsorted(x, x[np.arange(1, groups) * len(x) // groups], side="left")
    means = []
    for start, end in _joined([0, *np.unique(cuts).tolist(), len(x)]):
        group, values = x[start:end], y[start:end]
        spread = float(values.std(ddof=1))
        means.append((float(group.mean()), float(values.mean()), spread, len(group)))
    return means


def _joined(cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Join spans between cuts that are too small to the next span, the last to the one before."""
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
            "condition adherence: each image needs one requested and one measured value; found "
            f"the shapes {requested.shape} and {measured.shape}. Leave out images without either."
        )
    if not (np.isfinite(requested).all() and np.isfinite(measured).all()):
        raise MetricError(
            "condition adherence: requested and measured values must be finite; found NaN or "
            "infinity. Leave out images without a value."
        )
