"""Learnt measures: a covariate predicted from features, without bias between the two sets.

A model of age or sex is fitted on real images, so it would fit those images too well. Therefore a
real image is measured by the model of a fold that left its subject out. The features and the
penalty of that model are chosen inside the fold's training images (nested cross-validation: Varma
and Simon 2006). Every other image is measured by the model of one random fold, a model of the same
kind that was trained on the same number of subjects. So images with the real distribution are
measured exactly as well as the real ones, whose results are the best that other images can reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.metric import as_float64

FOLDS = 5
INNER_FOLDS = 4
MOST_COMPONENTS = 200
"""Largest number of principal components of a block of features."""

RIDGE_STRENGTHS = tuple(10.0**k for k in range(-3, 3))
LOGISTIC_STRENGTHS = tuple(10.0**k for k in range(-4, 2))
"""Candidates for the L2 penalty per training image, on features of unit total variance."""


@dataclass(frozen=True)
class Predicted:
    """Predictions of a covariate for real images and for others.

    Attributes
    ----------
    real, others
        One number per image; for a categorical covariate, the probability of each of `levels`, one
        row per image. NaN for real images without the covariate.
    levels
        The categories, sorted; empty for a number.
    chosen
        By block of features, the number of folds that chose it.
    """

    real: Float64[np.ndarray, "*shape"]
    others: Float64[np.ndarray, "*shape"]
    levels: tuple[str, ...]
    chosen: Mapping[str, int]


def predict(
    real: Mapping[str, Float64[np.ndarray, "n _"]],
    others: Mapping[str, Float64[np.ndarray, "m _"]],
    target: Sequence[float | str | None],
    subjects: Int64[np.ndarray, " n"],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> Predicted:
    """Predict a covariate for real images and for others, by models fitted on real images.

    Numbers are predicted by ridge regression, categories by L2-penalised logistic regression, from
    one block of features or from all blocks together.

    Parameters
    ----------
    real, others
        Blocks of features by name, one row per image.
    target
        The covariate of each real image: numbers, or words for categories; None where missing.
    subjects
        The subject of each real image: all images of a subject are in one fold.
    folds
        Number of outer folds.
    seed
        Seed of the folds, and of the models that measure the other images.

    Raises
    ------
    MetricError
        There are fewer than 4 subjects per fold, all values are equal, or a category has too few
        subjects to be in every training set.
    """
    known = np.array([value is not None for value in target])
    values = [value for value in target if value is not None]
    categorical = any(isinstance(value, str) for value in values)
    y = np.array([str(v) for v in values]) if categorical else np.array(values, dtype=np.float64)
    _, index = np.unique(subjects[known], return_inverse=True)
    _check_target(y, index, folds)
    rng = np.random.default_rng(seed)
    outer = deal_folds(y, index, folds, rng)
    dealt = rng.permutation(len(next(iter(others.values())))) % folds
    blocks = _blocks(real, others)
    levels = tuple(np.unique(y).tolist()) if categorical else ()
    shape = (len(levels),) if categorical else ()
    of_real: np.ndarray = np.full((len(target), *shape), np.nan)
    of_others: np.ndarray = np.full((len(dealt), *shape), np.nan)
    rows = np.flatnonzero(known)
    chosen: dict[str, int] = {}
    for fold in range(folds):
        training = outer != fold
        name, strength = _choice(
            {b: r[rows[training]] for b, (r, _) in blocks.items()}, y[training],
            deal_folds(y[training], index[training], INNER_FOLDS, rng),
        )  # fmt: skip
        chosen[name] = chosen.get(name, 0) + 1
        x_real, x_others = blocks[name]
        model = _fitted(x_real[rows[training]], y[training], strength)
        of_real[rows[~training]] = _predicted(model, x_real[rows[~training]])
        if (dealt == fold).any():
            of_others[dealt == fold] = _predicted(model, x_others[dealt == fold])
    return Predicted(of_real, of_others, levels, chosen)


def deal_folds(
    y: np.ndarray, subjects: Int64[np.ndarray, " n"], folds: int, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """Deal subjects to random folds, so that each fold has all parts of the target's range.

    Parameters
    ----------
    y
        Numbers or categories, one per image; that of a subject's first image places the subject.
    subjects
        The subject of each image.

    Returns
    -------
    The fold of each image, 0 to `folds` - 1.
    """
    names, first, index = np.unique(subjects, return_index=True, return_inverse=True)
    shuffled = rng.permutation(len(names))
    # A stable sort keeps the random order among equal values.
    ordered = shuffled[np.argsort(y[first][shuffled], kind="stable")]
    place = np.empty(len(names), dtype=np.int64)
    for start in range(0, len(ordered), folds):
        group = ordered[start : start + folds]
        place[group] = rng.permutation(folds)[: len(group)]
    return place[index]


def _check_target(y: np.ndarray, index: np.ndarray, folds: int) -> None:
    subjects = int(index.max()) + 1 if len(index) else 0
    if subjects < 4 * folds:
        raise MetricError(
            f"a model needs at least {4 * folds} real subjects with a value; found {subjects}. "
            "Score against more real volumes, or bring measures of your own: --measures FILE.csv",
            "too few subjects",
            needed=4 * folds,
            found=subjects,
        )
    levels = np.unique(y)
    if len(levels) == 1:
        raise MetricError(
            f"a model needs at least two different values; every real volume has {levels[0]}, so "
            "there is nothing to learn. Bring measures of your own: --measures FILE.csv",
            "one value",
        )
    if y.dtype.kind == "U":
        counts = {level: len(np.unique(index[y == level])) for level in levels}
        rare = min(counts, key=lambda level: counts[level])
        if counts[rare] < 2 * folds:
            raise MetricError(
                f"a classifier needs at least {2 * folds} real subjects of each category; "
                f"'{rare}' has {counts[rare]}. Score against more real volumes, or bring measures "
                "of your own: --measures FILE.csv",
                "small category",
                needed=2 * folds,
                found=counts[rare],
            )


# ---------------------------------------------------------------- features and models


def _blocks(
    real: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each block as principal components of unit total variance, and all blocks joined.

    The components are those of all real images. They do not use the target, so no target value
    passes between folds.
    """
    blocks = {name: _components(as_float64(real[name]), as_float64(others[name])) for name in real}
    if len(blocks) > 1:
        together = [np.hstack(side) for side in zip(*blocks.values(), strict=True)]
        blocks[" + ".join(real)] = (together[0], together[1])
    return blocks


def _components(
    real: Float64[np.ndarray, "n d"], others: Float64[np.ndarray, "m d"]
) -> tuple[np.ndarray, np.ndarray]:
    centre = real.mean(axis=0)
    _, _, axes = np.linalg.svd(real - centre, full_matrices=False)
    axes = axes[:MOST_COMPONENTS].T
    x, z = (real - centre) @ axes, (others - centre) @ axes
    scale = np.sqrt(max(float(x.var(axis=0).sum()), np.finfo(np.float64).tiny))
    return x / scale, z / scale


def _choice(
    blocks: Mapping[str, np.ndarray], y: np.ndarray, inner: Int64[np.ndarray, " n"]
) -> tuple[str, float]:
    """The block and penalty of the smallest cross-validated loss; of equals the larger penalty."""
    strengths = LOGISTIC_STRENGTHS if y.dtype.kind == "U" else RIDGE_STRENGTHS
    losses = {
        (name, strength): sum(_losses(x, y, inner, strength))
        for name, x in blocks.items()
        for strength in reversed(strengths)
    }
    return min(losses, key=lambda key: losses[key])


def _losses(
    x: np.ndarray, y: np.ndarray, inner: Int64[np.ndarray, " n"], strength: float
) -> Iterator[float]:
    for fold in range(INNER_FOLDS):
        out = inner == fold
        model = _fitted(x[~out], y[~out], strength)
        predicted = _predicted(model, x[out])
        if y.dtype.kind != "U":
            yield float(np.square(predicted - y[out]).sum())
            continue
        true = np.searchsorted(model.classes_, y[out])
        probability = predicted[np.arange(len(true)), true]
        yield float(-np.log(np.maximum(probability, 1e-12)).sum())


def _fitted(x: np.ndarray, y: np.ndarray, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if y.dtype.kind == "U":
        return LogisticRegression(C=1 / (strength * len(y)), max_iter=1000).fit(x, y)
    return Ridge(alpha=strength * len(y)).fit(x, y)


def _predicted(model: Any, x: np.ndarray) -> Float64[np.ndarray, "*shape"]:
    predicted = model.predict_proba(x) if hasattr(model, "classes_") else model.predict(x)
    return np.asarray(predicted, dtype=np.float64)


def wrong(
    probabilities: Float64[np.ndarray, "n k"], levels: Sequence[str], true: Sequence[str]
) -> Bool[np.ndarray, " n"]:
    """Return True for each image whose most probable level is not the true one."""
    likeliest = np.asarray(levels)[probabilities.argmax(axis=1)]
    return np.asarray(likeliest != np.asarray(true))
