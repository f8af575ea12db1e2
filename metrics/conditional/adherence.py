"""Asked against measured: does a conditional generator do what it was asked?

Functions of arrays, one row an image: what was asked of it and what was measured on it. Where the
asked values are a person's true covariates, they say how well the measure itself does, which is
the ceiling of what a generator can show by it.

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


def numeric_fidelity(
    asked: Float64[np.ndarray, " n"],
    measured: Float64[np.ndarray, " n"],
    *,
    same_unit: bool = True,
) -> list[Quantity]:
    """How a measured number follows the number that was asked for.

    Parameters
    ----------
    asked, measured
        One value an image.
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
    >>> asked = np.arange(20.0)
    >>> found = numeric_fidelity(asked, 2 * asked + 1)
    >>> [round(estimated(q, np.arange(20)).value, 6) for q in found]
    [1.0, 2.0, 10.5, 10.5]
    """
    _check(asked, measured)
    found = [Quantity("correlation", "correlation", fisher_z(asked, measured), math.tanh)]
    if same_unit:
        error = measured - asked
        found += [
            Quantity("slope", "slope", coefficient(asked[:, None], measured, 0)),
            Quantity("bias", "bias", mean(error)),
            Quantity("mae", "MAE", log_mean(np.abs(error)), math.exp),
        ]
    return found


def binary_fidelity(
    asked: Bool[np.ndarray, " n"],
    score: Float64[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
) -> list[Quantity]:
    """How a measured class follows the one of two classes that was asked for.

    Parameters
    ----------
    asked
        Whether the second class was.
    score
        Grows with the measured probability of the second class.
    correct
        Whether the measured class is the one that was asked for.

    Returns
    -------
    The area under the ROC curve, and the accuracy.

    Raises
    ------
    MetricError
        The columns do not fit, or are not finite.
    """
    _check(asked.astype(np.float64), score)
    return [
        Quantity("auc", "AUC", logit_auc(score, asked), from_logit),
        class_fidelity(correct),
    ]


def class_fidelity(correct: Bool[np.ndarray, " n"]) -> Quantity:
    """The share of images whose measured class is the one that was asked for."""
    return Quantity("accuracy", "accuracy", logit_mean(correct.astype(np.float64)), from_logit)


def leakage(
    asked: Mapping[str, Float64[np.ndarray, " n"]],
    measured: Float64[np.ndarray, " n"],
) -> dict[str, Quantity]:
    """How far each asked condition moves one measure, the others held where they are.

    Coefficients of one regression of the measure on all that was asked, so covariates that go
    together in the asked values (older, larger ventricles) are told apart. Asking for A leaks into
    the measure of B where A's coefficient is not what it is in real images, whose true covariates
    stand for the asked ones: there a noisy measure of B lets a little of A through too.

    Parameters
    ----------
    asked
        By condition, in units of its standard deviation, or 0 and 1.
    measured
        One value an image, scaled likewise.

    Raises
    ------
    MetricError
        The columns do not fit, or are not finite.
    """
    design = np.column_stack(list(asked.values()))
    for column in asked.values():
        _check(column, measured)
    return {
        name: Quantity("effect", f"effect of {name}", coefficient(design, measured, place))
        for place, name in enumerate(asked)
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
    asked: Float64[np.ndarray, " n"], measured: Float64[np.ndarray, " n"], points: int = 8
) -> list[tuple[float, float, float, int]]:
    """The measured mean along what was asked, in groups of about equal size.

    Returns
    -------
    For each of at most `points` groups, ordered by the asked value and of at least
    `FEWEST_IN_GROUP` images: the mean asked and measured value, the standard deviation of the
    measured one, and the number of images. Equal asked values are never parted.
    """
    order = np.argsort(asked, kind="stable")
    x, y = asked[order], measured[order]
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


def _check(asked: np.ndarray, measured: np.ndarray) -> None:
    if asked.shape != measured.shape or asked.ndim != 1:
        raise MetricError(
            "conditional fidelity: one asked and one measured value an image are needed; found "
            f"{asked.shape} and {measured.shape}. Leave out images that lack either."
        )
    if not (np.isfinite(asked).all() and np.isfinite(measured).all()):
        raise MetricError(
            "conditional fidelity: asked and measured values must be finite; found NaN or "
            "infinity. Leave out images without a value."
        )
