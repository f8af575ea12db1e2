"""Measures that are learnt: a covariate predicted from features, honestly on both sides.

A model of age or sex is fitted on real images, so measuring the same images with it would flatter
them. Real images are therefore measured by the model of a fold that left their subject out, with
the model's features and strength chosen inside that fold's training images (nested
cross-validation: Varma and Simon 2006). Each other image is measured by the model of one fold,
dealt at random: it meets models of the same kind, trained on as many subjects. Images that follow
the real distribution are then measured exactly as well as the real ones, which makes the latter a
ceiling.
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
"""Principal components that are kept of a block of features; fewer images have no more."""

RIDGE_STRENGTHS = tuple(10.0**k for k in range(-3, 3))
LOGISTIC_STRENGTHS = tuple(10.0**k for k in range(-4, 2))
"""Of the L2 penalty, a training image's share, on features of unit total variance."""


@dataclass(frozen=True)
class Predicted:
    """A covariate as it was predicted for real images and for others.

    Attributes
    ----------
    real, others
        One number per image; of words, the probability of each of `levels`, one row per image. NaN for
        real images without the covariate.
    levels
        The words, sorted; empty for a number.
    chosen
        Which features the folds chose, and how often.
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

    Numbers by ridge regression, words by L2-penalised logistic regression, on one block of
    features or on all of them together.

    Parameters
    ----------
    real, others
        Blocks of features by name, one row per image.
    target
        Of each real image: numbers, or words; None where missing.
    subjects
        The subject of each real image: its images are in one fold.
    folds
        Outer folds.
    seed
        Of the folds and of how other images are dealt to their models.

    Raises
    ------
    MetricError
        There are fewer than 4 subjects per fold, or a word has too few subjects to be in every
        training set, or all values are alike.
    """
    known = np.array([value is not None for value in target])
    kept = [value for value in target if value is not None]
    words = any(isinstance(value, str) for value in kept)
    y = np.array([str(v) for v in kept]) if words else np.array(kept, dtype=np.float64)
    _, index = np.unique(subjects[known], return_inverse=True)
    _check_target(y, index, folds)
    rng = np.random.default_rng(seed)
    outer = deal_folds(y, index, folds, rng)
    dealt = rng.permutation(len(next(iter(others.values())))) % folds
    blocks = _blocks(real, others)
    levels = tuple(np.unique(y).tolist()) if words else ()
    shape = (len(levels),) if words else ()
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
    """Deal subjects to folds at random, so that each fold holds all parts of the target's range.

    Parameters
    ----------
    y
        Numbers or words, one per image; a subject is placed by its first image's.
    subjects
        The subject of each image.

    Returns
    -------
    The fold of each image, 0 to `folds` - 1.
    """
    names, first, index = np.unique(subjects, return_index=True, return_inverse=True)
    shuffled = rng.permutation(len(names))
    # A stable sort keeps the random order among equals.
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
            "Score against more real volumes, or bring measures of your own: --measures FILE.csv"
        )
    levels = np.unique(y)
    if len(levels) == 1:
        raise MetricError(
            f"every real volume has the value {levels[0]}: there is nothing to learn. Bring "
            "measures of your own: --measures FILE.csv"
        )
    if y.dtype.kind == "U":
        held = {level: len(np.unique(index[y == level])) for level in levels}
        rare = min(held, key=lambda level: held[level])
        if held[rare] < 2 * folds:
            raise MetricError(
                f"a classifier needs at least {2 * folds} real subjects of each level; "
                f"'{rare}' has {held[rare]}. Score against more real volumes, or bring measures "
                "of your own: --measures FILE.csv"
            )


# ---------------------------------------------------------------- features and models


def _blocks(
    real: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each block as principal components of unit total variance, and all blocks side by side.

    Neither sees the target, so that nothing of it passes between folds.
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
    """The block and strength of least cross-validated loss; the stronger penalty in a tie."""
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
        told = np.searchsorted(model.classes_, y[out])
        probability = predicted[np.arange(len(told)), told]
        yield float(-np.log(np.maximum(probability, 1e-12)).sum())


def _fitted(x: np.ndarray, y: np.ndarray, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if y.dtype.kind == "U":
        return LogisticRegression(C=1 / (strength * len(y)), max_iter=1000).fit(x, y)
    return Ridge(alpha=strength * len(y)).fit(x, y)


def _predicted(model: Any, x: np.ndarray) -> Float64[np.ndarray, "*shape"]:
    found = model.predict_proba(x) if hasattr(model, "classes_") else model.predict(x)
    return np.asarray(found, dtype=np.float64)


def wrong(
    probabilities: Float64[np.ndarray, "n k"], levels: Sequence[str], told: Sequence[str]
) -> Bool[np.ndarray, " n"]:
    """Whether the likeliest level of each image is another than the one told."""
    likeliest = np.asarray(levels)[probabilities.argmax(axis=1)]
    return np.asarray(likeliest != np.asarray(told))
